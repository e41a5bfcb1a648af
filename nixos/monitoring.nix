# `services.peernix.alerts` and `services.peernix.dashboard`: for the machine that has Prometheus or Grafana.
{
  config,
  lib,
  pkgs,
  ...
}: let
  inherit (lib) mkIf mkMerge mkOption types;
  cfg = config.services.peernix;
  inherit (cfg) alerts dashboard;
  fraction = percent: toString (percent / 100.0);
  # The rules as they come have the defaults in them.
  rules = pkgs.writeText "peernix-alerts.yml" (
    builtins.replaceStrings ["> 0.85" "< 0.80"] ["> ${fraction alerts.diskPercent}" "< ${fraction alerts.hitRate}"]
    (builtins.readFile ../monitoring/alerts.yml)
  );
  percent = what: default:
    mkOption {
      type = types.ints.between 1 99;
      inherit default;
      description = what;
    };
in {
  options.services.peernix = {
    alerts = {
      enable = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether the Prometheus of this machine reads the counters of its Peernix and has the rules of {file}`monitoring/alerts.yml`. Machines
          elsewhere are for that Prometheus to scrape by a way of your own: `/metrics` answers on loopback alone.
        '';
      };
      diskPercent = percent "How full the disk of the store may be before there is an alert." 85;
      hitRate = percent "Of how many in a hundred found paths peers should have." 80;
    };

    dashboard.enable = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the Grafana of this machine has the dashboard of {file}`monitoring/dashboard.json`.";
    };
  };

  config = mkMerge [
    (mkIf alerts.enable {
      services.prometheus = {
        ruleFiles = [rules];
        scrapeConfigs = [
          {
            job_name = "peernix";
            static_configs = [{targets = [(lib.head cfg.settings.gateway.listen)];}];
          }
        ];
      };
    })
    (mkIf dashboard.enable {
      environment.etc."peernix/dashboards/peernix.json".source = ../monitoring/dashboard.json;
      services.grafana.provision.dashboards.settings.providers = [
        {
          name = "Peernix";
          options.path = "/etc/peernix/dashboards";
        }
      ];
    })
  ];
}
