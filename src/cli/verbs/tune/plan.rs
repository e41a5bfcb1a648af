//! From hardware to settings of Nix and NixOS, each with its reason: pure, and the same for the same hardware.

use serde::Serialize;
use std::fmt::{self, Display};

/// A gibibyte.
const GIB: u64 = 1 << 30;
/// A gigabyte, as disks are sold.
const GB: u64 = 1_000_000_000;

/// What a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Hardware {
    /// Memory, in bytes.
    pub(super) ram: u64,
    /// Processors, as the system counts them.
    pub(super) cores: u64,
    /// The disk of the store, in bytes.
    pub(super) disk: u64,
}

/// What kind of machine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Profile {
    /// What its hardware can carry, by formulas
    Auto,
    /// Less than 4 GB of memory: it serves two or three others
    Minimal,
    /// 4 to 6 GB: it serves four to six
    Low,
    /// 8 to 16 GB: it serves ten and more
    Mid,
    /// More than that
    High,
}

/// A value of an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            // None of ours has anything that would need more than quotes.
            Self::Text(value) => write!(f, "\"{value}\""),
            Self::List(values) => {
                let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
                write!(f, "[{}]", quoted.join(" "))
            }
        }
    }
}

/// One option, what it should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    /// As NixOS has it: `nix.settings.max-jobs`.
    pub(super) option: &'static str,
    pub(super) value: Value,
    pub(super) reason: String,
}

/// The row of a profile that is not `auto`.
struct Row {
    max_jobs: u64,
    cores: u64,
    zram: Option<u64>,
    swappiness: u64,
    keep_days: u64,
}

impl Profile {
    fn row(self, cores: u64) -> Option<Row> {
        let (max_jobs, per_job, zram, swappiness, keep_days) = match self {
            Self::Auto => return None,
            Self::Minimal => (1, 1, Some(50), 10, 7),
            Self::Low => (2, if cores > 2 { 2 } else { 1 }, Some(25), 5, 14),
            Self::Mid => (if cores > 4 { 6 } else { 4 }, 2, None, 1, 30),
            Self::High => return None,
        };
        Some(Row { max_jobs, cores: per_job, zram, swappiness, keep_days })
    }
}

/// Jobs that build at once: each needs a processor, and two gibibytes.
fn jobs(hardware: Hardware) -> u64 {
    hardware.cores.min(hardware.ram / (2 * GIB)).max(1)
}

/// How old a generation has to be to go, by the size of the disk.
const fn keep_days(disk: u64) -> u64 {
    match disk / GB {
        0..100 => 7,
        100..250 => 14,
        _ => 30,
    }
}

fn setting(option: &'static str, value: Value, reason: impl Into<String>) -> Setting {
    Setting { option, value, reason: reason.into() }
}

/// What a machine with this hardware should have.
pub(super) fn plan(hardware: Hardware, profile: Profile) -> Vec<Setting> {
    use Value::{Bool, Number, Text};
    let is_small = hardware.ram < 8 * GIB;
    let formulas = Row {
        max_jobs: jobs(hardware),
        cores: if profile == Profile::High { 4 } else { hardware.cores.saturating_sub(1).max(1) },
        zram: is_small.then_some(50),
        swappiness: if is_small { 10 } else { 1 },
        keep_days: if profile == Profile::High { 60 } else { keep_days(hardware.disk) },
    };
    let row = profile.row(hardware.cores).unwrap_or(formulas);
    let min_free = (10 * GIB).max(hardware.disk / 100 * 15);
    let max_free = (hardware.disk / 4).max(min_free);
    let mut settings = vec![
        setting(
            "nix.settings.max-jobs",
            Number(row.max_jobs),
            "a build at a time for each processor, and no more than memory carries: 2 GiB each",
        ),
        setting(
            "nix.settings.cores",
            Number(row.cores),
            "what one build may use; the rest is for whoever works at the machine",
        ),
        setting("nix.settings.http-connections", Number(25), "lookups at once: the gateway answers them together"),
        setting("nix.settings.auto-optimise-store", Bool(true), "files that are the same take their room once"),
        setting(
            "nix.settings.min-free",
            Number(min_free),
            "below this Nix collects garbage while it builds: 15 % of the disk, 10 GiB at least",
        ),
        setting("nix.settings.max-free", Number(max_free), "until so much is free again: a quarter of the disk"),
        setting("nix.gc.automatic", Bool(true), "so that nobody has to think of it"),
        setting("nix.gc.dates", Text("daily".to_owned()), "a little each day instead of much once"),
        setting(
            "nix.gc.options",
            Text(format!("--delete-older-than {}d", row.keep_days)),
            "how far back one can boot; less on a small disk",
        ),
        setting(
            "boot.kernel.sysctl.\"vm.swappiness\"",
            Number(row.swappiness),
            "swap is for what nothing else helps; sooner where memory is small and compressed",
        ),
        setting(
            "boot.kernel.sysctl.\"vm.vfs_cache_pressure\"",
            Number(50),
            "a store is a great many small files, whose names are worth keeping in memory",
        ),
    ];
    if let Some(percent) = row.zram {
        settings.push(setting("zramSwap.enable", Bool(true), "compressed memory instead of a build that is killed"));
        settings.push(setting(
            "zramSwap.algorithm",
            Text("zstd".to_owned()),
            "the best ratio of those that are fast enough",
        ));
        settings.push(setting("zramSwap.memoryPercent", Number(percent), "as much of the memory as that may hold"));
    }
    settings.extend(network());
    settings
}

/// What a fast line needs.
fn network() -> Vec<Setting> {
    use Value::{List, Number, Text};
    const WINDOW: u64 = 128 << 20;
    vec![
        setting("boot.kernelModules", List(vec!["tcp_bbr".to_owned()]), "BBR is a module of the kernel"),
        setting("boot.kernel.sysctl.\"net.core.default_qdisc\"", Text("fq".to_owned()), "paces what BBR sends"),
        setting(
            "boot.kernel.sysctl.\"net.ipv4.tcp_congestion_control\"",
            Text("bbr".to_owned()),
            "keeps a line full that loses packets now and then, as Wi-Fi does",
        ),
        setting(
            "boot.kernel.sysctl.\"net.core.rmem_max\"",
            Number(WINDOW),
            "windows for a gigabit over a tenth of a second",
        ),
        setting("boot.kernel.sysctl.\"net.core.wmem_max\"", Number(WINDOW), "the same of what is sent"),
        setting(
            "boot.kernel.sysctl.\"net.ipv4.tcp_rmem\"",
            Text("4096 87380 67108864".to_owned()),
            "grows to that by itself",
        ),
        setting(
            "boot.kernel.sysctl.\"net.ipv4.tcp_wmem\"",
            Text("4096 65536 67108864".to_owned()),
            "the same of what is sent",
        ),
    ]
}

/// A module of NixOS with these settings, each with its reason.
pub(super) fn module(head: &str, settings: &[Setting]) -> String {
    let mut text = format!("# {head}\n{{\n");
    for Setting { option, value, reason } in settings {
        text.push_str(&format!("  # {reason}\n  {option} = {value};\n"));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(hardware: Hardware, profile: Profile, option: &str) -> Option<String> {
        let settings = plan(hardware, profile);
        settings.into_iter().find(|setting| setting.option == option).map(|setting| setting.value.to_string())
    }

    fn of(ram_gib: u64, cores: u64, disk_gb: u64) -> Hardware {
        Hardware { ram: ram_gib * GIB, cores, disk: disk_gb * GB }
    }

    #[test]
    fn the_formulas_are_those_of_the_guide() {
        // Memory in GiB, processors, disk in GB: jobs, cores, days, swappiness, zram.
        for (hardware, jobs, cores, days, swappiness, zram) in [
            (of(2, 2, 60), "1", "1", 7, "10", Some("50")),
            (of(4, 1, 120), "1", "1", 14, "10", Some("50")),
            (of(4, 4, 99), "2", "3", 7, "10", Some("50")),
            (of(8, 4, 250), "4", "3", 30, "1", None),
            (of(16, 4, 249), "4", "3", 14, "1", None),
            (of(64, 16, 1000), "16", "15", 30, "1", None),
        ] {
            let get = |option: &str| value(hardware, Profile::Auto, option);
            assert_eq!(get("nix.settings.max-jobs").unwrap(), jobs, "{hardware:?}");
            assert_eq!(get("nix.settings.cores").unwrap(), cores, "{hardware:?}");
            assert_eq!(get("nix.gc.options").unwrap(), format!("\"--delete-older-than {days}d\""), "{hardware:?}");
            assert_eq!(get("boot.kernel.sysctl.\"vm.swappiness\"").unwrap(), swappiness, "{hardware:?}");
            assert_eq!(get("zramSwap.memoryPercent").as_deref(), zram, "{hardware:?}");
        }
        let disk = |gb, option| value(of(8, 4, gb), Profile::Auto, option).unwrap().parse::<u64>().unwrap();
        assert_eq!((disk(400, "nix.settings.min-free"), disk(400, "nix.settings.max-free")), (60 * GB, 100 * GB));
        assert_eq!((disk(20, "nix.settings.min-free"), disk(20, "nix.settings.max-free")), (10 * GIB, 10 * GIB));
    }

    #[test]
    fn the_profiles_are_those_of_the_guide() {
        // Jobs, cores, days, swappiness, zram.
        for (profile, hardware, jobs, cores, days, swappiness, zram) in [
            (Profile::Minimal, of(3, 2, 500), "1", "1", 7, "10", Some("50")),
            (Profile::Low, of(4, 2, 500), "2", "1", 14, "5", Some("25")),
            (Profile::Low, of(6, 4, 500), "2", "2", 14, "5", Some("25")),
            (Profile::Mid, of(8, 4, 100), "4", "2", 30, "1", None),
            (Profile::Mid, of(16, 8, 100), "6", "2", 30, "1", None),
            (Profile::High, of(64, 16, 100), "16", "4", 60, "1", None),
        ] {
            let get = |option: &str| value(hardware, profile, option);
            assert_eq!(get("nix.settings.max-jobs").unwrap(), jobs, "{profile:?}");
            assert_eq!(get("nix.settings.cores").unwrap(), cores, "{profile:?}");
            assert_eq!(get("nix.gc.options").unwrap(), format!("\"--delete-older-than {days}d\""), "{profile:?}");
            assert_eq!(get("boot.kernel.sysctl.\"vm.swappiness\"").unwrap(), swappiness, "{profile:?}");
            assert_eq!(get("zramSwap.memoryPercent").as_deref(), zram, "{profile:?}");
        }
    }

    #[test]
    fn it_is_a_module_that_nix_can_read() {
        let text = module("a test", &plan(of(4, 2, 100), Profile::Auto));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tune.nix"), &text).unwrap();
        let mut nix = std::process::Command::new("nix-instantiate");
        nix.args(["--eval", "--strict", "--json"]).arg(dir.path().join("tune.nix"));
        nix.env("NIX_STATE_DIR", dir.path()).env("NIX_STORE_DIR", dir.path().join("store"));
        let output = match nix.output() {
            Ok(output) => output,
            Err(error) => return crate::cli::output::complain(&format!("SKIPPED: nix-instantiate: {error}")),
        };
        assert!(output.status.success(), "{text}{output:?}");
        let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&read["nix"]["settings"]["max-jobs"], &read["nix"]["gc"]["dates"]), (&2.into(), &"daily".into()));
        assert_eq!(read["boot"]["kernel"]["sysctl"]["net.ipv4.tcp_congestion_control"], "bbr");
    }

    proptest! {
        /// Whatever the hardware, nothing is nought and no more is freed than there is.
        #[test]
        fn every_plan_makes_sense(ram in 0..1_u64 << 44, cores in 0..1024_u64, disk in 0..1_u64 << 50) {
            let hardware = Hardware { ram, cores, disk };
            for profile in [Profile::Auto, Profile::Minimal, Profile::Low, Profile::Mid, Profile::High] {
                let number = |option: &str| value(hardware, profile, option).unwrap().parse::<u64>().unwrap();
                prop_assert!(number("nix.settings.max-jobs") >= 1 && number("nix.settings.cores") >= 1);
                prop_assert!(number("nix.settings.min-free") <= number("nix.settings.max-free"));
            }
        }
    }
}
