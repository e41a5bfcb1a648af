# `services.peernix.settings`: an option for every key of docs/config.example.toml, with the daemon's own default. `make nixos-check`
# compares the two.
{lib}: let
  inherit (lib) mkOption types;
  option = type: default: description: mkOption {inherit type default description;};

  texts = types.listOf types.str;
  # One address or a list, as in the file; "" is nowhere.
  addresses = types.coercedTo types.str (text: lib.optional (text != "") text) texts;
  size = types.either types.ints.unsigned types.str;
  # What there is to say of a cache beside its URL. `null` is left out of the file.
  upstream = types.submodule {
    options = {
      url = mkOption {
        type = types.strMatching "https?://[^@]+";
        example = "https://cache.example.org";
        description = "Where it is. Without user and password: those are a credential.";
      };
      credential =
        option (types.nullOr (types.submodule {
          options = {
            netrc = option name null "A file as Nix's `netrc-file`: `machine HOST login USER password PASSWORD`.";
            bearer = option name null "A token.";
            certificate = option name null "A client certificate and its key, as PEM in one file.";
          };
        }))
        null "The names of systemd credentials that show who asks; {option}`services.peernix.credentials` says where they come from.";
      public_keys = option (types.nullOr texts) null "The keys by which it may vouch for paths. `null`: all that are trusted.";
      allow = option (types.nullOr texts) null "Patterns over names: what is taken from it. `null`: everything.";
      deny = option texts [] "Patterns over names: what is not taken from it.";
      tier = option types.ints.u8 1 "Those of a higher tier are asked when those of lower ones do not have a path.";
    };
  };
  name = types.nullOr types.str;
  cacheKey = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
in {
  gateway = {
    listen = option addresses ["127.0.0.1:7649"] "Where the binary cache for this machine's Nix listens. Loopback only.";
    priority = option types.int 10 ''
      The `Priority` in its `nix-cache-info`. Nix asks lower numbers first; cache.nixos.org has 40, a cache that names none 0. Nix asks for
      it once in 7 days, so a change takes that long to be seen.
    '';
    upstreams = option (types.listOf (types.either types.str upstream)) ["https://cache.nixos.org"] ''
      The binary caches that the gateway asks when no peer has a path, best first. The empty list is none: peers only. Nix asks its
      own `substituters` after the gateway as before; one that is named here too is asked once for all machines of the network.

      Each is a URL, or a set: `url`; `credential`, the name of a systemd credential that shows who asks (`{ netrc = "NAME"; }`,
      `{ bearer = "NAME"; }` or `{ certificate = "NAME"; }`, see {option}`services.peernix.credentials`); `public_keys`, the keys by which it
      may vouch for paths, if they are trusted as well; `allow` and `deny`, patterns over names of what is taken from it; `tier` (1): those of
      a higher one are asked when those of lower ones do not have a path.
    '';
    budget_ms = option (types.ints.between 1 10000) 300 ''
      How long a lookup waits for peers, in milliseconds. An upstream that works is waited for longer, up to 8 seconds, while
      nobody has said yes: Nix remembers "not here" for an hour. So is a peer that is said to have it, up to 0.7 seconds.
    '';
    read_ahead = option types.bool true ''
      Whether the small NARs of a closure are fetched before Nix asks for them, once it has asked for the first.
    '';
    verify = option (types.enum ["tail" "whole"]) "tail" ''
      How much of a NAR is verified before Nix sees its first byte. `"tail"`: all of one of 16 MiB and less; of a larger one the last 64 KiB are
      withheld until the whole is verified, and Nix throws away what it has when they do not come. `"whole"`: all of it, however large; it is kept in
      the cache directory (`cache.max_size`) for that, and Nix hears nothing meanwhile (its `stalled-download-timeout` is 5 minutes).
    '';
    download_limit = option size "0B" "The most bytes a second that come for NARs, of all sources together. `\"0B\"` is no limit.";
    download_limit_per_peer = option size "0B" "The most bytes a second that come from one source. `\"0B\"` is no limit.";
    proxy = option (types.nullOr types.str) null ''
      The proxy on the way to upstreams, such as `"http://proxy.example.org:3128"` or `"socks5://127.0.0.1:1080"`, without user and
      password. `""` is none. `null`: the environment of the service says, which has what {option}`networking.proxy` gives the Nix daemon.
    '';
  };
  share = {
    profile = option (types.nullOr (types.enum ["open" "team" "fleet" "receive-only"])) null ''
      With whom this machine shares, in one word; `null`: as the other options say. `"open"`: with whoever is on the network, what public keys
      signed. `"team"`: with the machines of `fleet.nodes`. `"fleet"`: with the members of the fleet, also what was built here.
      `"receive-only"`: with nobody. Nobody is let in by an ordinary binary cache but with `"open"`.
      It sets `fleet.mode`, and `policy`, `listen`, `index` and `relay` where they follow from it; one that is set to
      something else contradicts it, and is refused when the system is built.
    '';
    listen = option addresses ["[::]:7650"] ''
      Where other machines with Peernix connect (TLS, both sides show their node key). `""` is nowhere.
    '';
    index = option types.bool true ''
      Whether peers are told which paths are offered, so that they need not ask for others. They get 48 bits of a hash for each path: who
      knows a path can tell whether it is here, and nobody learns a path that they do not know.
    '';
    relay = option types.bool true ''
      Whether this machine relays where there are more than 128, if it has no battery and a wire: it knows what all of them have and tells the
      others, who then need not know each other. Needs `index`, and up to 144 MB of memory where they have much. Four machines do it.
    '';
    plain_listen = option addresses [] ''
      Where an ordinary HTTP binary cache for any Nix listens, for example `"[::]:5000"`. `""` is nowhere.
    '';
    policy = option (types.enum ["signed" "signed+own" "off"]) "signed" ''
      Which paths are offered. `"signed"`: those that carry a valid signature by one of `public_keys`. `"signed+own"`: also what was built
      on this machine, to enrolled machines only (needs `fleet.mode = "static"` or `"fleet"`). `"off"`: none.
    '';
    public_keys = option texts [cacheKey] ''
      The keys for that: also those of other caches whose paths the machines should get from each other. They say what goes out; what may come in is a matter of `nix.settings.trusted-public-keys`. A list here replaces
      the default: repeat it to keep the paths of cache.nixos.org.
    '';
    deny = option texts [] ''
      Patterns over names of paths (without the hash) that are never offered, for example `"*-secret*"`. `*` is any text, `?` one character.
    '';
    compression = option (types.enum ["auto" "off"]) "auto" ''
      Whether NARs are compressed on the way between peers, given and asked for. `"auto"`: where the line is slower than about 1 Gbit/s, as it is
      measured, and there is something to gain.
    '';
    plain_compression = option (types.enum ["none" "zstd"]) "none" ''
      How NARs are sent to an ordinary Nix at `plain_listen`: as they are, or compressed with zstd while they are sent, which takes the processor
      of this machine each time and leaves Nix no way to go on in the middle of one.
    '';
    upload_limit = option size "0B" "The most bytes sent a second, all peers together; they take turns. `\"0B\"` is no limit.";
    upload_limit_per_peer = option size "0B" "The most bytes sent a second to one peer. `\"0B\"` is no limit.";
    upload_schedule = option (types.listOf (types.submodule {
      options = {
        from = mkOption {
          type = types.str;
          description = "From then on, by the clock of the machine, such as `\"08:00\"`.";
        };
        until = mkOption {
          type = types.str;
          description = "Until then; before `from` it is of the next day.";
        };
        limit = mkOption {
          type = size;
          description = "The most bytes sent a second. `\"0B\"` is no limit.";
        };
      };
    })) [] "Times of the day with another limit than `upload_limit`. The first that fits counts.";
    on_metered = option (types.enum ["pause" "share"]) "pause" ''
      What is done on a connection that costs by the byte, as NetworkManager says: nothing is sent to other machines, or as on any other.
    '';
    battery_min = option (types.ints.between 0 100) 20 ''
      While the battery is used and has less than this many percent, as UPower says, nothing is sent to other machines.
    '';
    max_connections = option (types.ints.between 1 65536) 1024 "The most connections held at once.";
  };
  store = {
    dir = option types.str "/nix/store" "The store directory, as store paths spell it.";
    state_dir = option types.str "/nix/var/nix" "Nix's state directory.";
    root = option types.str "/" "The root under which both are: another one for a chroot store, as in Nix's `--store DIR`.";
  };
  trust.public_keys = option (types.nullOr texts) null ''
    The keys of which a path must carry a valid signature to be handed to Nix. `null`: those that `nix.settings.trusted-public-keys`
    names, which is what nearly everybody wants: Nix checks against those once more. A list here takes their place, so it repeats what
    is to be kept, such as the key of cache.nixos.org; with {option}`services.peernix.configureNix` its keys are added to
    `nix.settings.trusted-public-keys` as well.
  '';
  keys = {
    signing = option (types.enum ["state" "credential"]) "state" ''
      Where the key comes from that signs what was built here (with `share.policy = "signed+own"`). `"state"`: made by the service and
      kept in its state directory; `peernixctl keys rotate` replaces it. `"credential"`: the credential `signing-key`;
      {option}`services.peernix.signingKeyFile` sets both.
    '';
    name = option types.str "" ''
      The name of the first key; the next ones count on (tower-1, tower-2). `""` is the host's name and -1.
    '';
    grace = option types.str "30days" "How long a key that was replaced still signs beside its successor.";
  };
  discovery = {
    mdns = option types.bool true "Whether to find other machines by multicast DNS, and be found.";
    interfaces = option texts [] ''
      The network interfaces for it, by name. The empty list is all. {option}`services.peernix.interfaces` sets this as well.
    '';
    peers = option texts [] ''
      Machines at fixed addresses: `"host:port"`, or `"NODEID@host:port"` when only that machine may answer there.
    '';
    peerix = option types.bool false ''
      Whether machines with peerix (port 12304) and with the Peernix that is written in Go (port 9999) are asked and answered, over UDP and HTTP, while they are replaced: what anyone may
      have of this store is theirs as well, and what they have counts by its signatures. Nix finds the gateway at `http://127.0.0.1:12304` and `http://127.0.0.1:9999/nix-cache` too.
    '';
  };
  fleet = {
    mode = option (types.enum ["open" "static" "fleet"]) "open" ''
      Who is admitted as a peer. `"open"`: every machine. `"static"`: the machines in `nodes`, and nobody else. `"fleet"`: the machines that a
      fleet key vouches for; {command}`peernixctl fleet` founds a fleet and lets machines in.
    '';
    nodes = option texts [] "With `mode = \"static\"`: node ids, as `peernixd --print-node-id` prints them.";
    public_key = option types.str "" ''
      With `mode = "fleet"`: the public half of the fleet key, as {command}`peernixctl fleet` shows it. `""` is that of the fleet which this machine
      founded or joined.
    '';
  };
  swarm = {
    claims = option types.bool true ''
      Whether a NAR that no machine of the network has is downloaded by one of them for all; the others stream it from that one while it comes.
    '';
    pieces = option types.bool true ''
      Whether a NAR of 16 MiB and more comes from several machines at once that have it, in pieces that are proved one by one, and is given in those.
    '';
    max_sources = option (types.ints.between 2 16) 4 "From how many machines at most.";
    patches = option types.bool true ''
      Whether a NAR comes as what it differs in from another version, where the line is slow and both machines have that; and is given so.
    '';
  };
  nats = {
    servers = option (types.listOf (types.strMatching "(nats|tls)://[^@]+")) [] ''
      The NATS servers that join the sites of one administrator; they need JetStream. The empty list is none: this machine knows of no other
      site. `"nats://HOST:PORT"` or `"tls://HOST:PORT"`, without user and password: those are a credential.
    '';
    site = option types.str "" ''
      The name of the site that this machine is of, the same on all machines of its network: letters, digits, `-` and `_`.
    '';
    credential = option types.str "" ''
      The name of a systemd credential with a NATS credentials file (`.creds`) or the seed of an nkey, see
      {option}`services.peernix.credentials`. `""`: the servers are shown nothing.
    '';
    addresses = option addresses [] "Where other sites reach this machine's share, one address or two, where that is not an address that it has itself.";
    relay = option size 0 ''
      The largest NAR that goes over NATS, signed and in parts, where no machine of another site can be reached directly; for what this machine
      fetches and for what it sends. `0`: none. NATS servers see what they carry.
    '';
  };
  replicate = {
    copies = option (types.ints.between 1 64) 1 ''
      On how many machines of the fleet what was built here or pinned shall be, this one included. 1: only here. Nix there has to trust the key
      that signs it.
    '';
    keep = option types.str "30days" "For how long what was built here is wanted there, from then on. What is pinned is for as long as it is.";
    max_size = option size "10GiB" "How much is held here for other members. 0: nothing.";
    replace_after = option types.str "1h" "After how long a member that is gone is replaced by another one.";
  };
  cache = {
    max_size = option size "4GiB" "How much is kept for other machines while it is fetched, in the cache directory and in memory.";
    keep = option types.str "15min" "How long it is kept after the last machine that streams it.";
  };
  limits = {
    header_timeout = option types.str "5s" "How long the head of a request may take to arrive, on gateway and share.";
    idle_timeout = option types.str "30s" "How long a connection of the share may be idle, or its transfer make no progress.";
    per_address = option types.ints.positive 128 "The most connections of the share from one address at once.";
    memory = option size "64MiB" "The memory for NARs that are verified whole before Nix sees their first byte.";
    requests_per_second = option types.ints.unsigned 0 "How many requests of one address the share answers in a second. 0 is any number.";
  };
  log.level = option (types.enum ["off" "error" "warn" "info" "debug" "trace"]) "info" "The least severe level that is logged.";
}
