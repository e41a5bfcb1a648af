# What the machines of all tests have, unless their own file says otherwise.
{
  services.peernix.settings = {
    gateway.upstreams = [];
    share.public_keys = ["test-1:2bDQ1SvGOePXi7OD5Re5xXZt4SCR0coHZMpr/8t3jZ0="];
  };
  nix.settings = {
    experimental-features = ["nix-command"];
    # What tests build needs a shell and coreutils, which are in different places on Debian and NixOS.
    sandbox = false;
    substituters = ["http://127.0.0.1:7649"];
    trusted-public-keys = ["test-1:2bDQ1SvGOePXi7OD5Re5xXZt4SCR0coHZMpr/8t3jZ0="];
    # A path that was nowhere a moment ago may be there now.
    narinfo-cache-negative-ttl = 0;
  };
  # For tests only: the secret half of test-1.
  environment.etc."vm-test/secret-key".text = "test-1:KlZyzLB/QeHjKmR2RaVvWXTqg/G6PCYAs9RdNOtihfrZsNDVK8Y549eLs4PlF7nFdm3hIJHRygdkymv/y3eNnQ==";
}
