# `services.peernix.tune`: what `peernixctl tune plan` prints, as an option. The formulas are those of src/cli/verbs/tune/plan.rs, which says
# the reason of each value; nixos/tests holds the two against each other. All of it yields to what the system says itself.
{
  config,
  lib,
  ...
}: let
  inherit (lib) mkDefault mkIf mkOption types;
  tune = config.services.peernix.tune;
  gib = 1073741824;
  gb = 1000000000;
  inherit (tune) cores;
  ram = tune.memoryGiB * gib;
  disk = tune.diskGB * gb;
  least = a: b:
    if a < b
    then a
    else b;
  most = a: b:
    if a < b
    then b
    else a;
  small = ram < 8 * gib;
  formulas = {
    jobs = most 1 (least cores (ram / (2 * gib)));
    cores = most 1 (cores - 1);
    zram =
      if small
      then 50
      else null;
    swappiness =
      if small
      then 10
      else 1;
    days =
      if tune.diskGB < 100
      then 7
      else if tune.diskGB < 250
      then 14
      else 30;
  };
  rows = {
    auto = formulas;
    minimal = {
      jobs = 1;
      cores = 1;
      zram = 50;
      swappiness = 10;
      days = 7;
    };
    low = {
      jobs = 2;
      cores =
        if cores > 2
        then 2
        else 1;
      zram = 25;
      swappiness = 5;
      days = 14;
    };
    mid = {
      jobs =
        if cores > 4
        then 6
        else 4;
      cores = 2;
      zram = null;
      swappiness = 1;
      days = 30;
    };
    high =
      formulas
      // {
        cores = 4;
        days = 60;
      };
  };
  row = rows.${tune.profile};
  minFree = most (10 * gib) (disk / 100 * 15);
  maxFree = most (disk / 4) minFree;
  number = what: example:
    mkOption {
      type = types.ints.positive;
      inherit example;
      description = what;
    };
in {
  options.services.peernix.tune = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether Nix, garbage collection, memory and network of this machine get settings that suit its hardware, which has to be named:
        a configuration knows nothing of the machine that it is for. {command}`peernixctl tune plan` prints the same with the reason of each
        value. Whatever the configuration says itself wins.
      '';
    };

    profile = mkOption {
      type = types.enum ["auto" "minimal" "low" "mid" "high"];
      default = "auto";
      description = ''
        What kind of machine it is: `minimal` has less than 4 GB of memory and serves two or three others, `low` 4 to 6 GB and four to six,
        `mid` 8 to 16 GB and ten and more, `high` more than that. With `auto` it is what its hardware can carry.
      '';
    };

    memoryGiB = number "Its memory, in GiB." 8;
    cores = number "Its processors." 4;
    diskGB = number "The disk of its store, in GB as disks are sold." 250;
  };

  config = mkIf tune.enable {
    nix.settings = {
      max-jobs = mkDefault row.jobs;
      cores = mkDefault row.cores;
      http-connections = mkDefault 25;
      auto-optimise-store = mkDefault true;
      min-free = mkDefault minFree;
      max-free = mkDefault maxFree;
    };
    nix.gc = {
      automatic = mkDefault true;
      dates = mkDefault "daily";
      options = mkDefault "--delete-older-than ${toString row.days}d";
    };
    zramSwap = mkIf (row.zram != null) {
      enable = mkDefault true;
      algorithm = mkDefault "zstd";
      memoryPercent = mkDefault row.zram;
    };
    boot.kernelModules = ["tcp_bbr"];
    boot.kernel.sysctl = {
      "vm.swappiness" = mkDefault row.swappiness;
      "vm.vfs_cache_pressure" = mkDefault 50;
      "net.core.default_qdisc" = mkDefault "fq";
      "net.ipv4.tcp_congestion_control" = mkDefault "bbr";
      "net.core.rmem_max" = mkDefault 134217728;
      "net.core.wmem_max" = mkDefault 134217728;
      "net.ipv4.tcp_rmem" = mkDefault "4096 87380 67108864";
      "net.ipv4.tcp_wmem" = mkDefault "4096 65536 67108864";
    };
  };
}
