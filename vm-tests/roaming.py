"""A laptop leaves one network and joins another: lookups stay quick all the time, and it finds who is there."""


def switch(interface: str, up: bool) -> None:
    """Plugs the laptop into a network, or out of it."""
    laptop.succeed(f"ip link set {interface} {'up' if up else 'down'}")


def join(interface: str, network: int) -> None:
    """Joins a network, in which it gets an address as DHCP would give it one."""
    switch(interface, True)
    laptop.succeed(
        f"ip address replace 192.168.{network}.2/24 dev {interface}",
        f"ip address replace 2001:db8:{network}::2/64 dev {interface} nodad",
    )


def online() -> list[str]:
    """The names of the peers that can be asked."""
    peers = json.loads(laptop.succeed("peernixctl --json=short peers"))
    return [peer["name"] for peer in peers if peer["state"] == "online"]


laptop.start()
laptop.wait_for_unit("multi-user.target")
switch("eth2", False)
start_all()
for machine in machines:
    machine.wait_for_unit("peernix.service")
at_home, at_office = build(home, "at-home"), build(office, "at-office")

with subtest("at home"):
    retry(lambda _: online() == ["home"], seconds(60))
    realise(laptop, at_home)
    laptop.fail(f"{REALISE} {at_office}")

with subtest("on the way there is no network at all"):
    switch("eth1", False)
    # From the first moment, when it does not know yet: Nix must not wait for those who are not there any more.
    for _ in range(5):
        nowhere(laptop, within=0.6)
    laptop.fail(f"{REALISE} {at_office}")
    wait_for_peers(laptop, 0)
    nowhere(laptop, within=0.6)

with subtest("at the office"):
    join("eth2", 2)
    retry(lambda _: online() == ["office"], seconds(60))
    # That it was nowhere is remembered for two seconds.
    laptop.wait_until_succeeds(f"{REALISE} {at_office}", timeout=seconds(10))
    nowhere(laptop, within=0.6)

with subtest("the office gets what was taken along from home"):
    realise(office, at_home)

with subtest("and home again"):
    switch("eth2", False)
    join("eth1", 1)
    retry(lambda _: online() == ["home"], seconds(60))
    realise(home, at_office)
    nowhere(laptop, within=0.6)
