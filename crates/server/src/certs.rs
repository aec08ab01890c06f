//! Certificates for development: a CA, and certificates issued by it for a server and
//! for a client. Who has the CA's key can impersonate any peer to those who trust the
//! CA.

use std::{
    fs, io,
    io::Write as _,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// Which certificates to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// The server's names and IP addresses. The one for clients to use comes first.
    pub names: Vec<String>,
    /// The beginning of their validity.
    pub from: SystemTime,
    /// The end of their validity.
    pub until: SystemTime,
}

/// The files of one party.
struct Party {
    name: &'static str,
    certificate: String,
    key: String,
}

impl Request {
    /// Valid for a year from now, for `names` and for calls from the same machine.
    #[must_use]
    pub fn for_a_year(mut names: Vec<String>) -> Self {
        for here in ["localhost", "127.0.0.1", "::1"] {
            if !names.iter().any(|name| name == here) {
                names.push(here.to_owned());
            }
        }
        // The clock of a peer may be slow.
        const TOLERANCE: Duration = Duration::from_secs(3600);
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let now = SystemTime::now();
        Self { names, from: now - TOLERANCE, until: now + YEAR }
    }

    /// Writes the files to `directory`. Returns which files they are and how to use
    /// them. Only the owner can read the keys.
    ///
    /// # Errors
    ///
    /// When one of the files exists and must not be replaced, when a file cannot be
    /// written, or when a name is invalid.
    pub fn make(&self, directory: &Path, replace: bool) -> anyhow::Result<String> {
        let parties = self.parties()?;
        let files: Vec<_> = parties
            .iter()
            .flat_map(|Party { name, certificate, key }| {
                let file = |end, pem, mode| (directory.join(format!("{name}{end}.pem")), pem, mode);
                [file("", certificate, 0o644), file("-key", key, 0o600)]
            })
            .collect();
        if let Some((file, ..)) = files.iter().find(|(file, ..)| !replace && file.exists()) {
            anyhow::bail!(
                "{} already exists; replace it with --force, or choose another --dir",
                file.display()
            );
        }
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for (file, pem, mode) in files {
            write(directory, &file, pem, mode, replace)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(self.explained(directory))
    }

    fn parties(&self) -> anyhow::Result<[Party; 3]> {
        // Each CA has its own name. Otherwise clients would take another CA for this
        // one, and report a bad signature.
        let name = format!("Four Modes development CA {}", uuid::Uuid::new_v4());
        let mut ca = self.params(&name, Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
        let leaf = |name, common_name: &str, names, usage| {
            let mut params = self.params(common_name, names)?;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &ca)?.pem();
            anyhow::Ok(Party { name, certificate, key: key.serialize_pem() })
        };
        let names = self.names.clone();
        let server = leaf("server", "Four Modes server", names, ExtendedKeyUsagePurpose::ServerAuth)?;
        let client = leaf("client", "Four Modes client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok([Party { name: "ca", certificate: ca.pem(), key: ca.key().serialize_pem() }, server, client])
    }

    fn params(&self, common_name: &str, names: Vec<String>) -> anyhow::Result<CertificateParams> {
        let all = names.join(", ");
        let params = CertificateParams::new(names);
        let mut params = params.with_context(|| format!("no certificate can cover {all}"))?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        let time = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            date_time_ymd(1970, 1, 1) + since
        };
        (params.not_before, params.not_after) = (time(self.from), time(self.until));
        Ok(params)
    }

    fn explained(&self, directory: &Path) -> String {
        let names = self.names.join(", ");
        let host = self.names.first().map_or("localhost", String::as_str);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let dir = directory.display();
        format!(
            "made in {dir}:
  ca.pem      ca-key.pem      the CA; whoever has this key can impersonate anyone
  server.pem  server-key.pem  the server, for {names}
  client.pem  client-key.pem  a client
use them with
  fourmodes-server all --tls-cert {dir}/server.pem --tls-key {dir}/server-key.pem --client-ca {dir}/ca.pem
  fourmodes unary multiply 6 7 --server https://{host}:50051 --ca {dir}/ca.pem --cert {dir}/client.pem --key {dir}/client-key.pem
"
        )
    }
}

/// Whole or not at all, and never for a moment with other permissions.
fn write(directory: &Path, file: &Path, pem: &str, mode: u32, replace: bool) -> io::Result<()> {
    let builder = &mut tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    let mut temporary = builder.tempfile_in(directory)?;
    temporary.write_all(pem.as_bytes())?;
    match replace {
        true => temporary.persist(file)?,
        false => temporary.persist_noclobber(file)?,
    };
    Ok(())
}
