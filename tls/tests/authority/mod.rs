//! Certificates for tests: an authority that issues what it is asked to, good or bad.
#![allow(dead_code)]

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub const DAY: Duration = Duration::from_secs(86_400);

/// A CA.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a certificate is to say.
#[derive(Clone)]
pub struct Wish {
    pub uris: Vec<String>,
    /// DNS names, beside 127.0.0.1 and localhost.
    pub hosts: Vec<String>,
    /// Names this machine.
    pub here: bool,
    /// Beginning and end, from now.
    pub begins: Begins,
    pub life: Duration,
}

#[derive(Clone, Copy)]
pub enum Begins {
    Ago(Duration),
    In(Duration),
}

/// PEM of a certificate and its key.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

/// Files of one owner.
#[derive(Clone, Debug)]
pub struct Place {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("randomness");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a CA signs itself"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, wish: &Wish) -> Issued {
        let mut params = CertificateParams::default();
        let text = |text: &String| Ia5String::try_from(text.as_str()).expect("ASCII");
        let uris = wish.uris.iter().map(|uri| SanType::URI(text(uri)));
        let hosts = wish.hosts.iter().map(|host| SanType::DnsName(text(host)));
        params.subject_alt_names = uris.chain(hosts).collect();
        if wish.here {
            let local = SanType::DnsName(text(&"localhost".to_owned()));
            let address = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
            params.subject_alt_names.extend([local, address]);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now();
        let begin = match wish.begins {
            Begins::Ago(time) => now - time,
            Begins::In(time) => now + time,
        };
        params.not_before = begin.into();
        params.not_after = (begin + wish.life).into();
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.0).expect("a CA signs");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Puts a certificate, its key and this CA into a folder.
    pub fn place(&self, folder: &Path, wish: &Wish) -> Place {
        let place = Place::of(folder);
        place.write(&self.issue(wish), &self.pem());
        place
    }
}

impl Wish {
    /// A certificate of this machine for a role in a cluster, such as `orders/node/a`.
    pub fn of(name: &str) -> Wish {
        Wish {
            uris: vec![format!("multiraft://{name}")],
            hosts: Vec::new(),
            here: true,
            begins: Begins::Ago(DAY),
            life: 3 * DAY,
        }
    }

    pub fn expired(self) -> Wish {
        Wish { begins: Begins::Ago(3 * DAY), life: DAY, ..self }
    }

    pub fn not_yet_valid(self) -> Wish {
        Wish { begins: Begins::In(DAY), life: DAY, ..self }
    }

    /// Names another host alone.
    pub fn elsewhere(self) -> Wish {
        Wish { here: false, hosts: vec!["elsewhere.example".into()], ..self }
    }
}

impl Place {
    pub fn of(folder: &Path) -> Place {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let file = |name: &str| folder.join(name);
        Place { certificate: file("tls.crt"), key: file("tls.key"), ca: file("ca.crt") }
    }

    pub fn write(&self, issued: &Issued, ca: &str) {
        let files = [(&self.certificate, &issued.certificate), (&self.key, &issued.key)];
        for (path, text) in files {
            std::fs::write(path, text).expect("the folder is writable");
        }
        std::fs::write(&self.ca, ca).expect("the folder is writable");
    }
}
