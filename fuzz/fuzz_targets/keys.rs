//! Key files and signatures: a signature stays as it was, a key is the same when it is read again, and a secret key that was read signs what its public half verifies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::{NarInfo, PublicKey, SecretKey, Signature, StoreDir, TrustedKeys};

const NARINFO: &str = "StorePath: /nix/store/7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-x\nURL: x\n\
    NarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73\nNarSize: 112\n";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let trimmed = text.trim_end_matches(['\n', '\r', ' ']);
    if let Ok(signature) = text.parse::<Signature>() {
        assert_eq!(signature.to_string(), trimmed);
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    if let Ok(secret) = text.parse::<SecretKey>() {
        assert_eq!(secret.to_file().parse::<SecretKey>().expect("a key").public(), secret.public());
        let dir = StoreDir::default();
        let mut info = NarInfo::parse(NARINFO, &dir).expect("a narinfo").info;
        info.signatures = vec![secret.sign(&info, &dir)];
        let trusted: TrustedKeys = [secret.public()].into_iter().collect();
        assert_eq!(trusted.voucher(&info, &dir), Some(&secret.public()));
    }
});
