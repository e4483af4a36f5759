//! `tenants.d/NAME.toml` and `secrets/NAME` beside the configuration: both there, or neither.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::super::files::{self, Access, unwritten};
use crate::config::ownership::{self, Kind};
use crate::config::{Authentication, Cloud, ContentType, HandOver, Secret, Settings, Tenant};
use crate::stopping::Stopping;
use crate::{Error, Result};

/// A tenant that is to be stored.
pub(in crate::command) struct New {
    pub(in crate::command) name: String,
    pub(in crate::command) cloud: Cloud,
    pub(in crate::command) hand_over: HandOver,
    /// Its own content types; none: those of `[collect]`.
    pub(in crate::command) content_types: Vec<ContentType>,
    pub(in crate::command) enabled: bool,
}

impl New {
    /// A tenant of the commercial cloud that is collected as `[collect]` says.
    pub(super) fn with_defaults(name: String, hand_over: HandOver) -> Self {
        Self {
            name,
            cloud: Cloud::Commercial,
            hand_over,
            content_types: Vec::new(),
            enabled: true,
        }
    }
}

/// Where a tenant of this name is stored.
pub(in crate::command) struct Place {
    pub(in crate::command) tenant: PathBuf,
    pub(in crate::command) secret: PathBuf,
}

impl Place {
    pub(in crate::command) fn of(config: &Path, name: &str) -> Self {
        let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
        Self {
            tenant: config
                .with_file_name("tenants.d")
                .join(format!("{name}.toml")),
            secret: config.with_file_name("secrets").join(name),
        }
    }
}

/// Stores all of them, or on any error none, and reads the configuration that is there then.
pub(in crate::command) fn store(config: &Path, new: &[&New]) -> Result<Settings> {
    let _lock = lock(config)?;
    let clashes = clashes(config, &Settings::load(config)?, new);
    if !clashes.is_empty() {
        return Err(Error::Configuration(clashes.join("\n")));
    }
    let owner = owner(config)?;
    let (stopping, _for_now) = Stopping::by_signal_for_now()?;
    let mut stored = Stored(Vec::new());
    for one in new {
        let place = Place::of(config, &one.name);
        // The tenant's file comes last: a run that looks meanwhile finds both, or no tenant.
        stored.file(
            &place.secret,
            one.hand_over.client_secret.expose_secret(),
            owner,
            0o600,
        )?;
        stored.file(&place.tenant, &text(one), owner, 0o640)?;
        if stopping.is_wished() {
            return Err(Error::TryLater(
                "asked to stop: nothing was stored".to_owned(),
            ));
        }
    }
    let settings = Settings::load(config)?;
    for one in new {
        // Owners and modes of the folders that were there before are judged here.
        Secret::File(Place::of(config, &one.name).secret).read()?;
    }
    stored.0.clear();
    Ok(settings)
}

/// Replaces the secret in a file; the owner stays, and the group `wazuh` if it may read it.
///
/// What a run would refuse of its place is refused before the old secret is gone.
pub(super) fn replace_secret(config: &Path, file: &Path, secret: &SecretString) -> Result<()> {
    let _lock = lock(config)?;
    let access = match fs::metadata(file) {
        Ok(metadata) => {
            ownership::open(file, Kind::Configuration)?;
            let is_for_wazuh = ownership::wazuh_group() == Some(metadata.gid());
            let readers = if is_for_wazuh { 0o040 } else { 0 };
            Access {
                mode: (metadata.mode() & readers) | 0o600,
                ..Access::of(&metadata)
            }
        }
        Err(_) => Access {
            owner: owner(config)?,
            mode: 0o600,
        },
    };
    // A link stays a link.
    let target = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    files::replace(target, secret.expose_secret().as_bytes(), access)
        .map_err(|fault| unwritten(target, &fault))?;
    // Where there was no file before, its folder is judged here.
    Secret::File(file.to_owned()).read()?;
    Ok(())
}

/// What became of the credential of a tenant that was removed.
pub(super) enum Left {
    Nothing,
    /// What the tenant signs in with.
    Credential(String),
    /// Where the link that was its secret led.
    Target(PathBuf),
}

/// Takes a tenant's file away, and its secret if it lies where `tenant add` puts it and nobody else
/// uses it.
///
/// # Errors
/// [`Error::Partial`] if the tenant is removed and its secret is not.
pub(super) fn remove(config: &Path, name: &str) -> Result<Left> {
    let _lock = lock(config)?;
    let settings = Settings::load(config)?;
    let tenant = super::find(&settings, name)?;
    let place = Place::of(config, name);
    if fs::symlink_metadata(&place.tenant).is_err() {
        return Err(Error::Configuration(format!(
            "{}: tenant {name} stands in this file; remove its [[tenant]] block there",
            config.display()
        )));
    }
    files::remove(&place.tenant).map_err(|fault| unwritten(&place.tenant, &fault))?;
    let secret = &place.secret;
    let is_shared = settings
        .tenants
        .iter()
        .any(|other| other.name != name && secret_file(other) == Some(secret));
    if secret_file(tenant) != Some(secret) || is_shared {
        return Ok(Left::Credential(super::credential(tenant)));
    }
    let target = fs::read_link(secret).ok();
    match files::remove(secret) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(Error::Partial(format!(
            "{name} is removed, but its secret {} could not be: {fault}; delete it",
            secret.display()
        ))),
        _ => Ok(target.map_or(Left::Nothing, |target| {
            Left::Target(secret.with_file_name("").join(target))
        })),
    }
}

pub(super) fn secret_file(tenant: &Tenant) -> Option<&PathBuf> {
    match &tenant.authentication {
        Authentication::Secret(Secret::File(file)) => Some(file),
        _ => None,
    }
}

/// What is stored already and must not come twice.
fn clashes(config: &Path, settings: &Settings, new: &[&New]) -> Vec<String> {
    // of those before in `new`
    let mut names: Vec<&str> = Vec::new();
    let mut ids: Vec<(&str, &str)> = Vec::new();
    for tenant in &settings.tenants {
        ids.push((&tenant.tenant_id, &tenant.name));
    }
    let mut clashes = Vec::new();
    for one in new {
        let (name, id) = (one.name.as_str(), one.hand_over.tenant_id.as_str());
        let secret = Place::of(config, name).secret;
        if settings.tenants.iter().any(|tenant| tenant.name == name) {
            clashes.push(format!(
                "{name}: there is a tenant of that name; choose another name, or for a new secret \
                 run `o365-wodle tenant rotate {name} --from FILE`"
            ));
        } else if names.contains(&name) {
            clashes.push(format!(
                "{name}: two files give this name; rename one of them, or take it out of the folder"
            ));
        } else if fs::symlink_metadata(&secret).is_ok() {
            clashes.push(format!(
                "{name}: {} is there already; remove it if no tenant uses it, or choose another name",
                secret.display()
            ));
        }
        if let Some((_, other)) = ids.iter().find(|(other, _)| *other == id) {
            clashes.push(format!(
                "{name}: tenant {other} has the same tenant ID {id}; one tenant is collected once, \
                 so remove one of the two"
            ));
        }
        names.push(name);
        ids.push((id, name));
    }
    clashes
}

fn text(new: &New) -> String {
    let New {
        name,
        cloud,
        hand_over,
        content_types,
        enabled,
    } = new;
    let cloud = match cloud {
        Cloud::Commercial => String::new(),
        other => format!("cloud = \"{}\"\n", other.as_str()),
    };
    let content_types = match content_types.as_slice() {
        [] => String::new(),
        own => {
            let names: Vec<_> = own.iter().map(|one| format!("\"{one}\"")).collect();
            format!("content_types = [{}]\n", names.join(", "))
        }
    };
    let enabled = if *enabled { "" } else { "enabled = false\n" };
    format!(
        "# Every key of a [[tenant]] may stand here.\n\
         tenant_id = \"{}\"\n\
         client_id = \"{}\"\n\
         client_secret_file = \"secrets/{name}\"\n\
         {cloud}{content_types}{enabled}",
        hand_over.tenant_id, hand_over.client_id
    )
}

/// Whose new files are: root makes them as those of the configuration, others their own.
fn owner(config: &Path) -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let metadata = fs::metadata(config).map_err(|fault| unwritten(config, &fault))?;
    Ok(Some((metadata.uid(), metadata.gid())))
}

/// Held while tenants come and go, so that two commands do not decide on the same names.
fn lock(config: &Path) -> Result<File> {
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let folder = config.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.lock().map(|()| folder))
        .map_err(|fault| unwritten(folder, &fault))
}

/// The files that were stored; they vanish with this unless it is emptied.
struct Stored(Vec<PathBuf>);

impl Stored {
    fn file(
        &mut self,
        path: &Path,
        content: &str,
        owner: Option<(u32, u32)>,
        mode: u32,
    ) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        folder_for(folder, owner).map_err(|fault| unwritten(folder, &fault))?;
        self.0.push(path.to_owned());
        files::replace(path, content.as_bytes(), Access { owner, mode })
            .map_err(|fault| unwritten(path, &fault))
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // The tenant's file goes before the secret that it names.
        for path in self.0.iter().rev() {
            if let Err(fault) = files::remove(path)
                && path.symlink_metadata().is_ok()
            {
                let path = path.display();
                // Why nothing was stored is the error that is on its way already.
                drop(writeln!(
                    io::stderr(),
                    "{path} could not be taken back: {fault}; remove it"
                ));
            }
        }
    }
}

fn folder_for(folder: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    if let Some((user, group)) = owner {
        chown(folder, Some(user), Some(group))?;
    }
    fs::set_permissions(folder, Permissions::from_mode(0o750))
}
