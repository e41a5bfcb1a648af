# A machine that stands for the Internet: no Peernix, and a web server that `serve_cache` (common.py) starts.
{
  services.peernix.enable = false;
  nix.settings.substituters = [];
  environment.etc."vm-test/nginx.conf".text = ''
    pid /tmp/nginx.pid;
    error_log stderr;
    events { }
    http {
      access_log /tmp/requests;
      server { listen 80; root /srv/cache; }
    }
  '';
}
