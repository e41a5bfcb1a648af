"""A user's desktop shows which machines come and go: one notification for those that come together. The picture is in the results."""

USER = "alice"
HOME = f"/home/{USER}"
peers = [one, two, three]


def as_user(command: str) -> str:
    """Runs a command in the session of the user."""
    return desktop.succeed(
        f"runuser -u {USER} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {USER})"
        f" DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/$(id -u {USER})/bus DISPLAY=:0 {command}"
    )


def shown() -> list[str]:
    """What the desktop showed so far, the oldest first: what it still shows, and what has gone."""
    lines = desktop.succeed(f"cat {HOME}/notifications").splitlines()
    return [json.loads(line) for line in lines if line]


start_all()
for machine in machines:
    machine.wait_for_unit("peernix.service")
wait_for_peers(desktop, len(peers))

with subtest("a user with a session, an X server and a notification server"):
    desktop.succeed(
        f"useradd --create-home {USER}",
        f"install -d -o {USER} {HOME}/.config {HOME}/.config/peernix {HOME}/.config/dunst",
        f"printf 'quiet_start = \"0s\"\\nmerge = \"4s\"\\n' >{HOME}/.config/peernix/notifier.toml",
        # dunst runs a program for each notification.
        f"""cat >{HOME}/.config/dunst/dunstrc <<'END'
[global]
    font = Monospace 10
    width = (300, 600)
[record]
    summary = "*"
    script = {HOME}/record
END""",
        f"""cat >{HOME}/record <<'END'
#!/bin/sh
jq --null-input --compact-output --arg summary "$2" --arg body "$3" '"\\($summary): \\($body)"' >>{HOME}/notifications
END""",
        f"chmod +x {HOME}/record; touch {HOME}/notifications; chown -R {USER} {HOME}",
        # The session lasts, although commands of the test log in and out again.
        f"loginctl enable-linger {USER}",
        f"systemctl start user@$(id -u {USER}).service",
    )
    as_user(f"{TRANSIENT} --user --unit=x Xvfb :0 -screen 0 800x400x24 -ac -noreset")
    desktop.wait_for_file("/tmp/.X11-unix/X0")
    as_user(f"{TRANSIENT} --user --unit=popups --setenv=DISPLAY=:0 dunst")
    desktop.wait_for_unit("popups.service", USER)
    as_user("notify-send hello world")
    retry(lambda _: shown() == ["hello: world"], seconds(20))

with subtest("the notifier runs in the session, as its unit says"):
    as_user("systemctl --user start peernix-notifier.service")
    desktop.wait_for_unit("peernix-notifier.service", USER)

with subtest("machines that go at once are one notification"):
    desktop.block()
    wait_for_peers(desktop, 0)
    retry(lambda _: len(shown()) == 2, seconds(20))
    for peer in peers:
        t.assertIn(peer.name, shown()[1])

with subtest("and so are those that come"):
    desktop.unblock()
    wait_for_peers(desktop, len(peers))
    retry(lambda _: len(shown()) == 3, seconds(20))
    for peer in peers:
        t.assertIn(peer.name, shown()[2])
    desktop.succeed("DISPLAY=:0 import -window root /tmp/desktop.png")
    desktop.copy_from_machine("/tmp/desktop.png")
    # There is something to see in it.
    t.assertGreater(int(desktop.succeed("identify -format %k /tmp/desktop.png")), 2)

with subtest("a key that signs from now on is told too"):
    desktop.succeed("peernixctl keys rotate", "peernixctl keys rotate")
    retry(lambda _: any("key" in text.lower() for text in shown()[3:]), seconds(20))
