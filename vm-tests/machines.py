"""The machines themselves and the driver: what all other tests take for granted."""

import tempfile

start_all()

with subtest("machines boot and have names"):
    a.wait_for_unit("multi-user.target")
    b.wait_for_unit("multi-user.target")
    t.assertEqual(a.succeed("hostname").strip(), "a")

with subtest("commands say how they ended"):
    t.assertEqual(a.execute("echo out; exit 3"), (3, "out\n"))
    a.fail("false | true")
    t.assertEqual(a.succeed("echo 1", "echo 2"), "1\n2\n")
    t.assertEqual(a.execute("sleep 60", timeout=seconds(1))[0], 124)

with subtest("units"):
    t.assertEqual(a.succeed("systemctl --failed --no-legend"), "")
    a.require_unit_state("nix-daemon.socket")
    t.assertEqual(a.get_unit_info("nix-daemon.socket")["ActiveState"], "active")
    a.succeed("printf '[Service]\\nExecStart=%s 1000\\n' $(command -v sleep) >/run/systemd/system/sleeper.service; systemctl daemon-reload")
    with t.assertRaisesRegex(Exception, "no pending jobs"):
        a.wait_for_unit("sleeper.service")
    a.start_job("sleeper")
    a.wait_for_unit("sleeper")
    a.stop_job("sleeper")
    t.assertEqual(a.get_unit_property("sleeper", "ActiveState"), "inactive")
    a.succeed("printf '[Service]\\nExecStart=%s\\nType=oneshot\\n' $(command -v false) >/run/systemd/system/failing.service")
    t.assertNotEqual(a.start_job("failing")[0], 0)
    with t.assertRaisesRegex(Exception, "failed"):
        a.wait_for_unit("failing.service")
    a.wait_for_open_unix_socket("/nix/var/nix/daemon-socket/socket")

with subtest("the network reaches all, until the cable is pulled"):
    b.succeed(f"{TRANSIENT} --unit=web python3 -m http.server --bind :: 8000")
    b.wait_for_open_port(8000)
    for host in ("b", "192.168.1.2", "[2001:db8:1::2]"):
        a.succeed(f"curl --max-time 5 --silent --fail --output /dev/null http://{host}:8000/")
    b.block()
    a.fail("curl --max-time 2 --silent http://b:8000/")
    b.unblock()
    a.wait_until_succeeds("curl --max-time 2 --silent http://b:8000/")
    b.succeed("systemctl stop web")
    a.wait_for_closed_port(8000, "b")

with subtest("files and console"):
    with tempfile.NamedTemporaryFile("w") as file:
        print("from the host", file=file, flush=True)
        a.copy_from_host(file.name, "/tmp/deep/er/copy")
    t.assertEqual(a.succeed("cat /tmp/deep/er/copy"), "from the host\n")
    a.succeed("mkdir /tmp/out && echo hello >/tmp/out/file")
    a.copy_from_machine("/tmp/out", "kept")
    a.succeed("logger --tag test 'the console shows the journal'")
    a.wait_for_console_text("console shows the j.*l")
    t.assertIn("the console shows the journal", a.get_console_log())

with subtest("what is written outlives a crash and a reboot"):
    a.succeed("echo kept >/root/file; sync")
    a.crash()
    t.assertFalse(a.is_up())
    a.start(allow_reboot=True)
    a.wait_for_file("/root/file")
    a.reboot()
    t.assertEqual(a.succeed("cat /root/file"), "kept\n")
    a.shutdown()

with subtest("a polling condition is noticed"):

    @polling_condition(seconds_interval=0)
    def has_file():
        """The file is there."""
        return b.execute("test -e /root/marker")[0] == 0

    b.succeed("touch /root/marker")
    with has_file:
        b.succeed("true")
        b.execute("rm /root/marker")
        with t.assertRaisesRegex(Exception, "The file is there"):
            b.succeed("true")

with subtest("a user has a session and a manager of her own"):
    b.succeed("useradd --create-home alice", "systemctl start user@$(id -u alice).service")
    b.wait_for_unit("dbus.socket", "alice")
