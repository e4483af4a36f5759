//! `tenant`: tenants come and go without a look at Wazuh.

pub(super) mod store;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use zeroize::Zeroizing;

use super::doctor::{self, Candidate, Past, Report, SignIn};
use super::{names, print_json, shown, table, unsaid};
use crate::cli;
use crate::config::{
    Authentication, Flaw, NewSecret, Secret, Settings, Tenant, doubtful, is_tenant_name,
    parse_hand_over, parse_new_secret,
};
use crate::microsoft::Credential;
use crate::{Error, Result};
use store::{Left, New, Place};

/// A byte more than a hand-over text may have, so that a longer one is seen to be longer.
const MAX_TEXT: u64 = 64 * 1024 + 1;

/// Carries out one of the commands below `tenant`.
///
/// # Errors
/// See the exit codes in the README; [`Error::Partial`] for a tenant that was stored although its
/// test failed.
pub(crate) fn tenant(config: &Path, command: &cli::Tenant, out: &mut impl Write) -> Result<()> {
    match command {
        cli::Tenant::Add(arguments) => add(config, arguments, out),
        cli::Tenant::Import { folder } => import(config, folder, out),
        cli::Tenant::List { json } => list(&Settings::load(config)?, *json, out).map_err(unsaid),
        cli::Tenant::Remove { name } => remove(config, name, out),
        cli::Tenant::Rotate { name, from } => rotate(config, name, from, out),
    }
}

fn add(config: &Path, arguments: &cli::TenantAdd, out: &mut impl Write) -> Result<()> {
    let cli::TenantAdd {
        name,
        from,
        cloud,
        no_test,
    } = arguments;
    let hand_over = parse_hand_over(&text(from)?).map_err(|flaws| refused(from, &flaws))?;
    let new = New {
        cloud: *cloud,
        ..New::with_defaults(name.clone(), hand_over)
    };
    let settings = store::store(config, &[&new])?;
    warn_of_doubt(name, &new.hand_over.client_secret);
    say_stored(config, name, out).map_err(unsaid)?;
    say_delete(from, out).map_err(unsaid)?;
    if *no_test {
        return Ok(());
    }
    test(&settings, &[name], out)
}

fn import(config: &Path, folder: &Path, out: &mut impl Write) -> Result<()> {
    let (files, skipped) = texts_in(folder).map_err(|fault| {
        let folder = folder.display();
        Error::Usage(format!("{folder}: {fault}; name a readable folder"))
    })?;
    for (path, why) in skipped {
        writeln!(out, "{}: skipped, {why}", shown(&path)).map_err(unsaid)?;
    }
    if files.is_empty() {
        let folder = folder.display();
        return Err(Error::Usage(format!(
            "{folder} holds no file; name the folder with the texts"
        )));
    }
    let (mut new, mut wrong) = (Vec::new(), Vec::new());
    for file in &files {
        match hand_over(file) {
            Ok(one) => new.push(one),
            Err(fault) => wrong.push(fault.to_string()),
        }
    }
    if !wrong.is_empty() {
        wrong.push("nothing was stored; correct these, or take them out of the folder".to_owned());
        return Err(Error::Configuration(wrong.join("\n")));
    }
    let settings = store::store(config, &new.iter().collect::<Vec<_>>())?;
    let names: Vec<&str> = new.iter().map(|one| one.name.as_str()).collect();
    for one in &new {
        warn_of_doubt(&one.name, &one.hand_over.client_secret);
    }
    for name in &names {
        say_stored(config, name, out).map_err(unsaid)?;
    }
    say_delete_of(folder, files.len(), out).map_err(unsaid)?;
    test(&settings, &names, out)
}

/// What is no text, and why.
type Skipped = (PathBuf, &'static str);

/// The texts in a folder, and what else is there, with the reason for which it is none. A link that
/// leads nowhere was meant as a text.
fn texts_in(folder: &Path) -> io::Result<(Vec<PathBuf>, Vec<Skipped>)> {
    let (mut texts, mut skipped) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        match fs::metadata(&path) {
            _ if is_hidden => skipped.push((path, "its name begins with a dot")),
            Ok(there) if there.is_dir() => {
                skipped.push((path, "it is a folder: import it by itself"));
            }
            Ok(there) if !there.is_file() => skipped.push((path, "it is no file")),
            _ => texts.push(path),
        }
    }
    texts.sort();
    skipped.sort();
    Ok((texts, skipped))
}

/// The tenant in a file that is named as the tenant is to be.
fn hand_over(file: &Path) -> Result<New> {
    if let Err(fault) = fs::metadata(file)
        && file.is_symlink()
    {
        return Err(Error::Configuration(format!(
            "{}: where the link leads: {fault}; correct it, or take it out of the folder",
            shown(file)
        )));
    }
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    if !is_tenant_name(&name) {
        return Err(Error::Configuration(format!(
            "{}: the file's name is to become the tenant's; use 1 to 64 of a-z, 0-9 and - before the dot",
            shown(file)
        )));
    }
    let hand_over = parse_hand_over(&text(file)?).map_err(|flaws| refused(file, &flaws))?;
    Ok(New::with_defaults(name.into_owned(), hand_over))
}

fn list(settings: &Settings, as_json: bool, out: &mut impl Write) -> io::Result<()> {
    let tenants = &settings.tenants;
    if as_json {
        let tenants: Vec<_> = tenants
            .iter()
            .map(|tenant| {
                json!({
                    "name": tenant.name,
                    "tenant_id": tenant.tenant_id,
                    "client_id": tenant.client_id,
                    "cloud": tenant.cloud.as_str(),
                    "signs_in_with": signs_in_with(tenant),
                    "enabled": tenant.enabled,
                    "labels": tenant.labels,
                })
            })
            .collect();
        return print_json(&json!({"version": 1, "tenants": tenants}), out);
    }
    if tenants.is_empty() {
        return writeln!(out, "No tenants yet.");
    }
    let mut table = table([
        "tenant",
        "tenant id",
        "client id",
        "cloud",
        "signs in with",
        "enabled",
    ]);
    for tenant in tenants {
        table.add_row([
            tenant.name.as_str(),
            &tenant.tenant_id,
            &tenant.client_id,
            tenant.cloud.as_str(),
            signs_in_with(tenant),
            if tenant.enabled { "yes" } else { "no" },
        ]);
    }
    writeln!(out, "{table}")
}

/// The key that says it.
fn signs_in_with(tenant: &Tenant) -> &'static str {
    match &tenant.authentication {
        Authentication::Secret(Secret::File(_)) => "client_secret_file",
        Authentication::Secret(Secret::Command(_)) => "client_secret_command",
        Authentication::Secret(Secret::Credential(_)) => "client_secret_credential",
        Authentication::Certificate { .. } => "certificate_file",
        Authentication::FederatedToken(_) => "federated_token_file",
    }
}

/// The key that says it, and the file, program or name that it names.
fn credential(tenant: &Tenant) -> String {
    let named = match &tenant.authentication {
        Authentication::Secret(Secret::File(file))
        | Authentication::Certificate {
            certificate_file: file,
            ..
        }
        | Authentication::FederatedToken(file) => file.display().to_string(),
        Authentication::Secret(Secret::Command(words)) => {
            words.first().cloned().unwrap_or_default()
        }
        Authentication::Secret(Secret::Credential(name)) => name.clone(),
    };
    format!("{} {named}", signs_in_with(tenant))
}

fn remove(config: &Path, name: &str, out: &mut impl Write) -> Result<()> {
    let secret = match store::remove(config, name)? {
        Left::Credential(credential) => {
            format!("{credential} stays: others may use it; delete it if nobody does")
        }
        Left::Target(target) => {
            let target = target.display();
            format!("its secret was a link: {target}, to which it led, stays")
        }
        Left::Nothing => "its secret too".to_owned(),
    };
    writeln!(
        out,
        "{name}: removed, {secret}. The ledger still knows what was collected: added again, the tenant \
         goes on from there. In Azure, delete the application's credential if nothing else uses it."
    )
    .map_err(unsaid)
}

fn rotate(config: &Path, name: &str, from: &Path, out: &mut impl Write) -> Result<()> {
    let settings = Settings::load(config)?;
    let tenant = find(&settings, name)?;
    let Some(file) = store::secret_file(tenant) else {
        return Err(Error::Configuration(format!(
            "{name} signs in with {}; replace it there, only a client_secret_file is written here",
            signs_in_with(tenant)
        )));
    };
    let new = parse_new_secret(&text(from)?).map_err(|flaws| refused(from, &flaws))?;
    same_application(tenant, &new)?;
    if is_in_use(file, &new.client_secret) {
        return Err(Error::Configuration(format!(
            "{name}: the text holds the secret that is in use already, and nothing was changed. If a new one was made, \
             hand over that one"
        )));
    }
    let report = doctor::probe_microsoft(
        &settings,
        vec![Candidate {
            tenant: Arc::clone(tenant),
            credential: Some(Credential::secret(new.client_secret.clone())),
            past: Past::default(),
        }],
    )?;
    if let Err(error) = signed_in(name, &report) {
        doctor::print(&report.findings, out).map_err(unsaid)?;
        return Err(error);
    }
    store::replace_secret(config, file, &new.client_secret)?;
    let shown = file.display();
    writeln!(
        out,
        "{name}: the new secret signs in and is in {shown}; the next run uses it"
    )
    .and_then(|()| say_delete(from, out))
    .map_err(unsaid)?;
    if tenant.client_secret_expires.is_some() {
        writeln!(
            out,
            "{name}: client_secret_expires still has the day of the old secret; correct it"
        )
        .map_err(unsaid)?;
    }
    conclude(&report, out)
}

/// Whether the only tenant of a report has signed in.
fn signed_in(name: &str, report: &Report) -> Result<()> {
    let untouched = "The new secret was not taken; the one in use is untouched.";
    match report.tenants.first().map(|found| &found.sign_in) {
        Some(SignIn::Done) => Ok(()),
        Some(SignIn::Refused(why)) => Err(Error::Refused(format!("{name}: {why}\n{untouched}"))),
        Some(SignIn::Unknown(why)) => Err(Error::TryLater(format!("{name}: {why}\n{untouched}"))),
        Some(SignIn::Impossible) | None => {
            Err(Error::TryLater(format!("{name}: not tried\n{untouched}")))
        }
    }
}

/// Whether that is the secret in `file` already, as far as that can be read.
fn is_in_use(file: &Path, new: &SecretString) -> bool {
    let present = Secret::File(file.to_owned()).read();
    present.is_ok_and(|present| present.expose_secret() == new.expose_secret())
}

fn same_application(tenant: &Tenant, new: &NewSecret) -> Result<()> {
    for (what, told, ours) in [
        ("tenant ID", &new.tenant_id, &tenant.tenant_id),
        ("client ID", &new.client_id, &tenant.client_id),
    ] {
        if let Some(told) = told
            && told != ours
        {
            return Err(Error::Configuration(format!(
                "{}: the text is for {what} {told}, the tenant has {ours}; check the text, or remove \
                 the tenant and add it anew (the ledger is kept)",
                tenant.name
            )));
        }
    }
    Ok(())
}

fn find<'a>(settings: &'a Settings, name: &str) -> Result<&'a Arc<Tenant>> {
    let found = settings.tenants.iter().find(|tenant| tenant.name == name);
    found.ok_or_else(|| {
        Error::Usage(format!(
            "{name}: no tenant has that name; `o365-wodle tenant list` shows them"
        ))
    })
}

/// Asks Microsoft about tenants that were stored, and says what is found.
fn test(settings: &Settings, names: &[&str], out: &mut impl Write) -> Result<()> {
    let is_new = |tenant: &&Arc<Tenant>| names.contains(&tenant.name.as_str());
    let tenants = settings.tenants.iter().filter(is_new).cloned();
    let report = doctor::probe_microsoft(settings, tenants.map(Candidate::from).collect())
        .map_err(|fault| Error::Partial(format!("stored, but not tested: {fault}")))?;
    conclude(&report, out)
}

fn conclude(report: &Report, out: &mut impl Write) -> Result<()> {
    doctor::print(&report.findings, out).map_err(unsaid)?;
    let unwell = report.tenants.iter().filter(|found| !found.is_well);
    let wrong: Vec<&str> = unwell.map(|found| found.name.as_str()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Partial(format!(
        "{} stored, but not well yet; see above",
        names(&wrong)
    )))
}

/// Says on standard error what looks odd in a secret that was stored.
fn warn_of_doubt(name: &str, secret: &SecretString) {
    if let Some(what) = doubtful(secret.expose_secret()) {
        // The secret is stored, whether that can be said or not.
        drop(writeln!(
            io::stderr(),
            "o365-wodle: {name}: the client secret {what}; it is stored as it stands. If it does not sign in, \
             ask for the value once more"
        ));
    }
}

/// The customer's text; `-` is standard input.
fn text(from: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(
        usize::try_from(MAX_TEXT).unwrap_or_default() + 64,
    ));
    let read = if from == Path::new("-") {
        io::stdin().lock().take(MAX_TEXT).read_to_end(&mut bytes)
    } else {
        File::open(from).and_then(|file| file.take(MAX_TEXT).read_to_end(&mut bytes))
    };
    match read {
        Ok(0) if from != Path::new("-") => Err(Error::Configuration(format!(
            "{}: the file is empty; ask for the three values once more: tenant ID, client ID, secret value",
            shown(from)
        ))),
        Ok(_) => Ok(bytes),
        Err(fault) => Err(Error::Usage(format!(
            "{}: {fault}; name the customer's text file, or - for standard input",
            shown(from)
        ))),
    }
}

fn refused(from: &Path, flaws: &[Flaw]) -> Error {
    let lines: Vec<_> = flaws
        .iter()
        .map(|flaw| format!("{}: {flaw}", shown(from)))
        .collect();
    Error::Configuration(lines.join("\n"))
}

/// Says where a tenant was stored.
pub(super) fn say_stored(config: &Path, name: &str, out: &mut impl Write) -> io::Result<()> {
    let Place { tenant, secret } = Place::of(config, name);
    let (tenant, secret) = (tenant.display(), secret.display());
    writeln!(
        out,
        "{name}: stored in {tenant}, its secret in {secret} (mode 0600)"
    )
}

fn say_delete(from: &Path, out: &mut impl Write) -> io::Result<()> {
    // Neither standard input, nor a pipe or what else has no name of its own.
    let is_kept = fs::symlink_metadata(from).is_ok_and(|there| there.is_file());
    if from == Path::new("-") || !is_kept {
        return Ok(());
    }
    let from = from.display();
    writeln!(
        out,
        "{from} was not changed and still holds the secret: it can be deleted now"
    )
}

/// As [`say_delete`] for the texts in a folder, which may hold other things.
fn say_delete_of(folder: &Path, files: usize, out: &mut impl Write) -> io::Result<()> {
    let folder = folder.display();
    match files {
        1 => writeln!(
            out,
            "{folder}: the file that was taken in was not changed and still holds the secret: it can be deleted now"
        ),
        _ => writeln!(
            out,
            "{folder}: the {files} files that were taken in were not changed and still hold the secrets: \
             they can be deleted now"
        ),
    }
}
