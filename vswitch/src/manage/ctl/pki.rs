//! `vswitchctl pki`: the lab CA. Files only; no switch is asked.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;
use vswitch_control::identity::{
    Certificate, Clock, Credentials, Identity, Role, Serial, TrustDomain,
};
use vswitch_control::pki::Ca;

/// A CA for the laboratory.
#[derive(Debug, Args)]
pub struct Pki {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a CA in a directory, for one trust domain.
    ///
    /// Its key (`ca_key.pem`) issues identities to whoever has it: keep the directory on a machine of
    /// its own. A CA that is there already is never replaced.
    Init {
        /// The directory; made if it is not there.
        #[arg(value_name = "DIR")]
        directory: PathBuf,

        /// The trust domain: the first part of all identities, such as `lab.example`.
        #[arg(long)]
        domain: TrustDomain,

        /// How long the CA, and so everything it issues, is valid.
        #[arg(long, value_name = "TIME", default_value = "10years", value_parser = validity)]
        valid: Duration,
    },
    /// Issue a certificate with a new key; for a name that has one, renew it.
    ///
    /// Its directory, DIR/ROLE/NAME, holds svid.pem, svid_key.pem and bundle.pem: copy it to its
    /// host. A running process takes renewed files by itself.
    Issue {
        /// The CA's directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,

        /// What its owner is: nve (an edge), ima (a server of the mapping authority) or operator.
        role: Role,

        /// Its owner's name.
        name: String,

        /// How long it is valid.
        #[arg(long, value_name = "TIME", default_value = "30days", value_parser = validity)]
        valid: Duration,
    },
    /// Revoke all certificates that were issued to a name, renewals included.
    ///
    /// Writes DIR/crl.pem, and a copy beside each bundle in DIR: copy it beside the bundle of every host.
    /// Running processes take it by themselves, and end sessions with whoever is on it within seconds.
    /// A certificate that is issued to the name later counts.
    Revoke {
        /// The CA's directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,

        /// What its owner is: nve, ima or operator.
        role: Role,

        /// Its owner's name.
        name: String,
    },
    /// Show the CA and what it has issued.
    Show {
        /// The CA's directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// A certificate is made for a time to come, with whole seconds.
fn validity(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_secs(1) {
        return Err("less than a second".to_owned());
    }
    Ok(time)
}

/// A CA, as JSON.
#[derive(Serialize)]
struct CaView {
    domain: TrustDomain,
    not_after: String,
    issued: Vec<IssuedView>,
}

/// What was revoked, as JSON.
#[derive(Serialize)]
struct RevokedView {
    /// Certificates that were not before.
    revoked: usize,
    /// The file.
    list: PathBuf,
}

/// An identity, as JSON.
#[derive(Serialize)]
struct IssuedView {
    identity: Identity,
    serial: String,
    not_after: String,
    /// Whether it has expired by now.
    expired: bool,
    /// Whether it is on the CA's list.
    revoked: bool,
    directory: PathBuf,
}

impl IssuedView {
    fn of(
        directory: PathBuf,
        certificate: &Certificate,
        now: SystemTime,
        revoked: &BTreeSet<Serial>,
    ) -> Self {
        let until = until(certificate);
        Self {
            identity: certificate.identity.clone(),
            serial: certificate.serial.to_string(),
            not_after: date(until),
            expired: until < now,
            revoked: revoked.contains(&certificate.serial),
            directory,
        }
    }
}

fn until(certificate: &Certificate) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(certificate.not_after.as_secs())
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

impl Pki {
    /// Does it, and says what was done to `out`.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn run(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        let now = SystemTime::now();
        match &self.what {
            What::Init {
                directory,
                domain,
                valid,
            } => {
                let ca = Ca::init(directory, domain, *valid, now)?;
                show(&ca, json, now, out)
            }
            What::Issue {
                directory,
                role,
                name,
                valid,
            } => {
                let ca = Ca::open(directory)?;
                let files = ca.issue(*role, name, *valid, now)?;
                // As its owner will: what cannot be used is not handed out.
                let credentials = Credentials::load(&files, *role, Clock::system().now())
                    .context("the certificate issued cannot be used")?;
                let place = files.chain.parent().unwrap_or(directory).to_owned();
                let view = IssuedView::of(place, credentials.certificate(), now, &ca.revoked()?);
                print(&view, json, out, |out| row(&view, out))
            }
            What::Revoke {
                directory,
                role,
                name,
            } => {
                let ca = Ca::open(directory)?;
                let view = RevokedView {
                    revoked: ca.revoke(*role, name, now)?,
                    list: ca.list(),
                };
                print(&view, json, out, |out| {
                    let RevokedView { revoked, list } = &view;
                    let list = list.display();
                    writeln!(
                        out,
                        "{role} {name}: {revoked} certificates more are revoked in {list}; copy it beside the bundle of every host"
                    )
                })
            }
            What::Show { directory } => show(&Ca::open(directory)?, json, now, out),
        }
    }
}

fn show(ca: &Ca, json: bool, now: SystemTime, out: &mut impl Write) -> anyhow::Result<()> {
    let (issued, revoked) = (ca.issued()?, ca.revoked()?);
    let view = CaView {
        domain: ca.domain().clone(),
        not_after: date(ca.not_after()),
        issued: issued
            .into_iter()
            .map(|(place, certificate)| IssuedView::of(place, &certificate, now, &revoked))
            .collect(),
    };
    print(&view, json, out, |out| {
        writeln!(out, "CA of {}, valid until {}", view.domain, view.not_after)?;
        view.issued.iter().try_for_each(|issued| row(issued, out))
    })
}

fn row(issued: &IssuedView, out: &mut impl Write) -> std::io::Result<()> {
    let state = match (issued.revoked, issued.expired) {
        (true, _) => "revoked, until",
        (false, true) => "expired on",
        (false, false) => "valid until",
    };
    let IssuedView {
        identity,
        not_after,
        directory,
        ..
    } = issued;
    writeln!(
        out,
        "{identity}  {state} {not_after}  {}",
        directory.display()
    )
}

fn print<W: Write>(
    view: &impl Serialize,
    json: bool,
    out: &mut W,
    text: impl FnOnce(&mut W) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(view)?)?;
    } else {
        text(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        pki: Pki,
    }

    fn run(json: bool, arguments: &[&str]) -> anyhow::Result<String> {
        let program = Program::try_parse_from([&["pki"], arguments].concat())?;
        let mut out = Vec::new();
        program.pki.run(json, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn a_ca_is_made_issues_and_is_shown() {
        let place = tempfile::tempdir().unwrap();
        let ca = place.path().join("ca");
        let ca = ca.to_str().unwrap();
        let made = run(false, &["init", ca, "--domain", "lab.example"]).unwrap();
        assert!(
            made.starts_with("CA of lab.example, valid until "),
            "{made}"
        );
        assert!(run(false, &["init", ca, "--domain", "lab.example"]).is_err());
        let issued = run(false, &["issue", ca, "nve", "host-a", "--valid", "2days"]).unwrap();
        assert!(
            issued.starts_with("spiffe://lab.example/nve/host-a  valid until "),
            "{issued}"
        );
        run(false, &["issue", ca, "operator", "eve", "--valid", "1s"]).unwrap();

        let shown: serde_json::Value =
            serde_json::from_str(&run(true, &["show", ca]).unwrap()).unwrap();
        assert_eq!(shown["domain"], "lab.example");
        assert_eq!(
            shown["issued"][0]["identity"],
            "spiffe://lab.example/nve/host-a"
        );
        assert_eq!(shown["issued"][0]["expired"], false);
        assert_eq!(shown["issued"].as_array().unwrap().len(), 2);
        for wrong in [
            &["issue", ca, "root", "a"][..],
            &["issue", ca, "nve", "a/b"],
            &["issue", ca, "nve", "a", "--valid", "0s"],
            &["init", ca, "--domain", "Lab"],
        ] {
            assert!(run(false, wrong).is_err(), "{wrong:?}");
        }
    }
}
