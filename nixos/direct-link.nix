# `services.peernix.directLink`: two machines on one cable. What `peernixctl link plan` prints is this.
{
  config,
  lib,
  ...
}: let
  inherit (lib) mkDefault mkIf mkOption types;
  cfg = config.services.peernix;
  link = cfg.directLink;
  other =
    if link.role == "server"
    then "client"
    else "server";
  addressOf = role: "${link.prefix}.${
    if role == "server"
    then "1"
    else "2"
  }";
  port = address: lib.toInt (lib.last (lib.splitString ":" address));
in {
  options.services.peernix.directLink = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether this machine is one end of a cable to another one: the interface gets an address, Peernix's ports are open on it alone, and
        Peernix is told where the other end is. {command}`peernixctl link test` measures the cable.
      '';
    };

    role = mkOption {
      type = types.enum ["server" "client"];
      example = "server";
      description = "Which end of the cable this is: the server has the first address, the client the second. Nothing else differs.";
    };

    interface = mkOption {
      type = types.str;
      example = "enp3s0";
      description = "The interface that the cable is in.";
    };

    prefix = mkOption {
      type = types.strMatching "[0-9]{1,3}[.][0-9]{1,3}[.][0-9]{1,3}";
      default = "10.255.255";
      description = "The first three numbers of the addresses at both ends; a network that nothing else uses.";
    };
  };

  config = mkIf (cfg.enable && link.enable) {
    networking.interfaces.${link.interface} = {
      useDHCP = mkDefault false;
      ipv4.addresses = [
        {
          address = addressOf link.role;
          prefixLength = 24;
        }
      ];
    };
    networking.firewall.interfaces.${link.interface} = {
      allowedTCPPorts = map port cfg.settings.share.listen;
      allowedUDPPorts = lib.optional cfg.settings.discovery.mdns 5353;
    };
    # Beside multicast DNS, which also finds it by its link-local address: so that it is known before it is heard.
    services.peernix.settings.discovery.peers = ["${addressOf other}:7650"];
    # A window that a gigabit needs, and what keeps the line full.
    boot.kernelModules = ["tcp_bbr"];
    boot.kernel.sysctl = {
      "net.core.rmem_max" = mkDefault 134217728;
      "net.core.wmem_max" = mkDefault 134217728;
      "net.ipv4.tcp_rmem" = mkDefault "4096 87380 67108864";
      "net.ipv4.tcp_wmem" = mkDefault "4096 65536 67108864";
      "net.ipv4.tcp_congestion_control" = mkDefault "bbr";
      "net.core.default_qdisc" = mkDefault "fq";
    };
  };
}
