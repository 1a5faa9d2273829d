//! Files of certificates: what is wrong with them is said, and what changes is taken over.
#![allow(clippy::unwrap_used)]

mod authority;

use authority::{Authority, DAY, Issued, Place, Wish};
use multiraft_tls::{Credentials, Files, Pair, Refreshed};
use std::path::Path;

fn files(place: &Place) -> Files {
    let Place { certificate, key, ca } = place.clone();
    Files {
        ca,
        pair: Some(Pair { certificate, key }),
        must_name: Some(("orders".into(), multiraft_tls::Role::Node)),
    }
}

fn refusal(place: &Place) -> String {
    Credentials::load(files(place)).expect_err("bad files").to_string()
}

/// Good files, for a test to spoil one of them.
fn good(folder: &Path) -> (Authority, Place, Issued) {
    let authority = Authority::new("ours");
    let issued = authority.issue(&Wish::of("orders/node/a"));
    let place = Place::of(folder);
    place.write(&issued, &authority.pem());
    (authority, place, issued)
}

#[test]
fn a_bad_file_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, place, issued) = good(folder.path());
    Credentials::load(files(&place)).unwrap();
    let other = authority.issue(&Wish::of("orders/node/a"));
    let spoil = |path: &Path, text: &str, words: &[&str]| {
        let before = std::fs::read(path).unwrap();
        std::fs::write(path, text).unwrap();
        let refusal = refusal(&place);
        assert!(refusal.starts_with(&path.display().to_string()), "{refusal}");
        for word in words {
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
        std::fs::write(path, before).unwrap();
    };
    let cut = &issued.certificate[..issued.certificate.len() / 2];
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    spoil(&place.certificate, "", &["no certificate in PEM", "BEGIN CERTIFICATE"]);
    spoil(&place.certificate, "not PEM at all", &["no certificate in PEM"]);
    spoil(&place.certificate, cut, &["not whole PEM"]);
    spoil(&place.certificate, damaged, &["damaged", "issue it again"]);
    spoil(&place.key, "", &["no private key in PEM", "not encrypted"]);
    spoil(&place.key, &other.key, &["is not the key of", "tls.crt", "both together"]);
    spoil(&place.ca, "", &["no CA in PEM"]);
    spoil(&place.ca, damaged, &["a CA cannot be used"]);
    spoil(&place.ca, &"x".repeat((1 << 20) + 1), &["more than 1048576 bytes"]);
    let expired = authority.issue(&Wish::of("orders/node/a").expired());
    spoil(&place.certificate, &expired.certificate, &["expired 2 d 0 h ago", "renew"]);
    let early = authority.issue(&Wish::of("orders/node/a").not_yet_valid());
    spoil(&place.certificate, &early.certificate, &["valid only in", "clock"]);
    for name in ["orders/admin/a", "invoices/node/a"] {
        let other = authority.issue(&Wish::of(name));
        spoil(&place.certificate, &other.certificate, &["multiraft://orders/node/NAME"]);
    }
    std::fs::remove_file(&place.key).unwrap();
    let missing = refusal(&place);
    assert!(missing.contains("tls.key: cannot be read") && missing.contains("path"), "{missing}");
}

#[test]
fn the_times_of_a_certificate_are_those_that_were_issued() {
    let folder = tempfile::tempdir().unwrap();
    let (_, place, _) = good(folder.path());
    let loaded = Credentials::load(files(&place)).unwrap().current();
    let validity = loaded.validity.unwrap();
    assert_eq!(validity.not_after - validity.not_before, 3 * DAY.as_secs());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(validity.not_before.abs_diff(now - DAY.as_secs()) < 600);
}

#[test]
fn new_files_are_taken_over_and_bad_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, place, issued) = good(folder.path());
    let credentials = Credentials::load(files(&place)).unwrap();
    let first = credentials.current();
    assert!(matches!(credentials.refresh(), Refreshed::Unchanged));

    let next = authority.issue(&Wish::of("orders/node/a"));
    std::fs::write(&place.certificate, &next.certificate).unwrap();
    // The key is still to come: nothing is said of the moment between.
    assert!(matches!(credentials.refresh(), Refreshed::Unchanged));
    std::fs::write(&place.key, &next.key).unwrap();
    assert!(matches!(credentials.refresh(), Refreshed::Replaced));
    assert_ne!(credentials.current().key.as_ref().unwrap().cert, first.key.as_ref().unwrap().cert);

    let second = credentials.current();
    std::fs::write(&place.key, &issued.key).unwrap();
    assert!(matches!(credentials.refresh(), Refreshed::Unchanged));
    assert!(matches!(credentials.refresh(), Refreshed::Kept(_)), "found twice");
    assert!(credentials.problem().contains("tls.key"));
    assert!(matches!(credentials.refresh(), Refreshed::Unchanged), "said once");
    assert!(std::sync::Arc::ptr_eq(&credentials.current(), &second));
    std::fs::write(&place.key, &next.key).unwrap();
    assert!(matches!(credentials.refresh(), Refreshed::Unchanged));
    assert_eq!(credentials.problem(), "");
}

/// As Kubernetes does it: a new folder, and a link that is turned to it at once.
#[cfg(unix)]
#[test]
fn a_link_that_is_turned_to_another_folder_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, ..) = good(&folder.path().join("one"));
    authority.place(&folder.path().join("two"), &Wish::of("orders/node/a"));
    let link = folder.path().join("data");
    std::os::unix::fs::symlink("one", &link).unwrap();
    let credentials = Credentials::load(files(&Place::of(&link))).unwrap();
    std::os::unix::fs::symlink("two", folder.path().join("next")).unwrap();
    std::fs::rename(folder.path().join("next"), &link).unwrap();
    assert!(matches!(credentials.refresh(), Refreshed::Replaced));
}
