//! Whether this machine stays where it is, on mains and on a wire: others may rely on it then.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

/// Whether it has no battery of its own, and a network that is not wireless. What cannot be read is not there.
#[must_use]
pub fn is_stationary() -> bool {
    judge(Path::new("/sys/class"))
}

fn judge(class: &Path) -> bool {
    let entries =
        |folder: &str| fs::read_dir(class.join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
    let says = |path: &Path, file: &str, text: &str| {
        fs::read_to_string(path.join(file)).is_ok_and(|content| content.trim() == text)
    };
    // A mouse has one as well, whose scope is the device.
    let own_battery = |path: &Path| says(path, "type", "Battery") && !says(path, "scope", "Device");
    // Of loopback the flags say so; a tunnel has no state.
    let wired = |path: &Path| {
        says(path, "operstate", "up") && !path.join("wireless").exists() && !path.join("phy80211").exists()
    };
    !entries("power_supply").any(|path| own_battery(&path)) && entries("net").any(|path| wired(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desktop_is_and_a_laptop_is_not() {
        let machine = |files: &[(&str, &str)]| {
            let class = tempfile::tempdir().unwrap();
            for (path, content) in files {
                let path = class.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            judge(class.path())
        };
        let (wire, air) = (("net/enp1s0/operstate", "up\n"), ("net/wlan0/operstate", "up\n"));
        let mouse = [("power_supply/hid-1/type", "Battery\n"), ("power_supply/hid-1/scope", "Device\n")];
        assert!(machine(&[wire, ("net/lo/operstate", "unknown\n")]));
        assert!(machine(&[wire, mouse[0], mouse[1], ("power_supply/AC/type", "Mains\n")]));
        assert!(!machine(&[wire, ("power_supply/BAT0/type", "Battery\n")]));
        assert!(!machine(&[air, ("net/wlan0/wireless/x", "")]));
        assert!(!machine(&[("net/enp1s0/operstate", "down\n")]));
        assert!(!machine(&[]));
    }
}
