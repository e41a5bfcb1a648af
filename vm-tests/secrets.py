"""Paths that nobody signed, and paths that `deny` names, look like paths that are not there: to peers and to everybody else."""

# Something of each kind that can be asked for: contents, a build log, debug information.
BUILD = """
{ name, id }: derivation {
  inherit name;
  system = builtins.currentSystem;
  builder = "/bin/sh";
  PATH = "/run/current-system/sw/bin:/usr/bin:/bin";
  args = [ "-euc" "echo the log of ${name}; mkdir -p $out/lib/debug/.build-id/${id}; echo ${name} >$out/lib/debug/.build-id/${id}/0123456789abcdef.debug" ];
}
"""
ABSENT = "/nix/store/00000000000000000000000000000000-absent-debug"


def make(name: str, id: str, sign: bool = True) -> dict[str, str]:
    """Builds a path; what can be asked for: what it is → where it is in a binary cache."""
    a.succeed(f"cat >/tmp/debug.nix <<'END'\n{BUILD}\nEND")
    path = a.succeed(f"nix-build --no-out-link --argstr name {name} --argstr id {id} /tmp/debug.nix").strip()
    if sign:
        a.succeed(f"nix store sign --key-file {SECRET_KEY} {path}")
    deriver, nar_hash = a.succeed(f"nix-store --query --deriver {path}; nix-store --query --hash {path}").split()
    return {"path": path} | urls(path, id, deriver, nar_hash.removeprefix("sha256:"))


def urls(path: str, id: str, deriver: str, nar_hash: str) -> dict[str, str]:
    """Where everything of a path is."""
    hash = path.removeprefix("/nix/store/")[:32]
    return {
        "narinfo": f"{hash}.narinfo",
        "NAR": f"nar/{hash}-{nar_hash}.nar",
        "NAR as of nix-serve": f"nar/{hash}.nar",
        "NAR as of harmonia": f"nar/{nar_hash}.nar?hash={hash}",
        "listing": f"{hash}.ls",
        "log": f"log/{deriver.rpartition('/')[2]}",
        "debug information": f"debuginfo/{id}0123456789abcdef",
    }


def ask(url: str) -> str:
    """What anybody is told: the head and the content, without the time."""
    return b.succeed(f"curl --silent --max-time 5 --include 'http://a:5000/{url}' | sed '/^date:/Id' | base64 --wrap=0")


def status(url: str) -> str:
    """The status of an answer."""
    return b.succeed(f"curl --silent --max-time 5 --output /dev/null --write-out '%{{http_code}}' 'http://a:5000/{url}'")


start_all()
for machine in machines:
    machine.wait_for_unit("peernix.service")
for machine in machines:
    wait_for_peers(machine, 1)
public = make("public-debug", "aa")
secrets = {
    "denied": make("the-secret-debug", "bb"),
    "unsigned": make("unsigned-debug", "cc", sign=False),
}
absent = urls(ABSENT, "dd", "00000000000000000000000000000000-absent-debug.drv", "0" * 52)

with subtest("what may be shared is there, in every form"):
    for kind, url in public.items():
        if kind != "path":
            t.assertEqual(status(url), "200", f"{kind}: {url}")
    realise(b, public["path"])

with subtest("what may not looks like what does not exist"):
    for why, secret in secrets.items():
        for kind, url in secret.items():
            if kind != "path":
                t.assertEqual(status(url), "404", f"{why}, {kind}: {url}")
                t.assertEqual(ask(url), ask(absent[kind]), f"{why}, {kind}: it differs from what is absent")

with subtest("also to a peer"):
    for secret in secrets.values():
        path = secret["path"]
        answered, refused = asked(a, "2xx"), asked(a, "4xx")
        b.fail(f"{REALISE} {path}")
        t.assertFalse(has(b, path))
        t.assertEqual(json.loads(b.succeed(f"peernixctl --json=short query {path}"))["sources"], [])
        # Not only because b would not take it: a does not give it away.
        t.assertEqual(asked(a, "2xx"), answered)
        t.assertGreater(asked(a, "4xx"), refused)

with subtest("the administrator is told why"):
    for why, word in (("denied", "deny"), ("unsigned", "signed+own")):
        sharing = json.loads(a.succeed(f"peernixctl --json=short query {secrets[why]['path']}"))["sharing"]
        t.assertEqual([audience["served"] for audience in sharing], [False] * len(sharing))
        t.assertIn(word, sharing[0]["reason"])

with subtest("nothing of them is in what the service says of itself"):
    for place in ("http://a:5000/", "http://a:5000/health", "http://a:5000/version"):
        said = b.succeed(f"curl --silent {place}")
        for secret in secrets.values():
            t.assertNotIn(secret["path"][11:], said)
