//! A configuration in a folder of its own, and the program run there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::microsoft::Server;

pub(super) const TENANT: &str = "8a3c1b6e-1111-4000-8000-0123456789ab";
pub(super) const CLIENT: &str = "0f0e0d0c-2222-4000-9000-ba9876543210";
pub(super) const SECRET: &str = "abC8Q~d.E_f-GhIjKlMnOpQrStUvWxYz01234567";
pub(super) const NEW_SECRET: &str = "xyZ8Q~n.E_w-GhIjKlMnOpQrStUvWxYz01234567";

/// A configuration, and a Wazuh home, in a folder of their own.
pub(super) struct Place(tempfile::TempDir);

/// What the program did.
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Place {
    pub(super) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write(
            "config.toml",
            "[wazuh]\nhome = \"ossec\"\n[log]\nfile = \"\"\n",
        );
        place
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    /// Every file below the folder, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push(path);
                }
            }
        }
        let mut files = Vec::new();
        walk(self.0.path(), &mut files);
        let mut names: Vec<_> = files
            .iter()
            .map(|file| {
                file.strip_prefix(self.0.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        names.sort();
        names
    }

    /// Runs the program; texts name this folder as DIR. No secret is ever said.
    pub(super) fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, "")
    }

    pub(super) fn run_with(&self, arguments: &[&str], stdin: &str) -> Said {
        // the way to the real Microsoft ends at a port that nobody listens on
        self.run_through("http://127.0.0.1:9", arguments, stdin)
    }

    pub(super) fn run_through(&self, proxy: &str, arguments: &[&str], stdin: &str) -> Said {
        let mut child = self.start_through(proxy, arguments);
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .unwrap();
        self.said(child)
    }

    pub(super) fn start(&self, arguments: &[&str]) -> Child {
        self.start_through("http://127.0.0.1:9", arguments)
    }

    fn start_through(&self, proxy: &str, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(arguments)
            .current_dir(self.0.path())
            .env("HTTPS_PROXY", proxy)
            .env("SSL_CERT_FILE", self.path("ca.pem"))
            .env_remove("NO_PROXY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Waits for the end of what was started.
    pub(super) fn said(&self, child: Child) -> Said {
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(
                !text.contains(SECRET) && !text.contains(NEW_SECRET),
                "{text}"
            );
            text.replace(self.0.path().to_str().unwrap(), "DIR")
        };
        Said {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// A stored tenant that signs in at this server.
    pub(super) fn with_tenant(server: &Server) -> Self {
        let place = Self::new();
        let said = place.run_with(
            &["tenant", "add", "contoso", "--from", "-", "--no-test"],
            &hand_over(TENANT),
        );
        assert_eq!(said.code, 0, "{}", said.err);
        let stored = place.read("tenants.d/contoso.toml");
        let url = &server.url;
        place.write(
            "tenants.d/contoso.toml",
            format!("{stored}login_url = \"{url}\"\nmanagement_url = \"{url}\"\n"),
        );
        place
    }
}

pub(super) fn hand_over(tenant: &str) -> String {
    format!("Tenant ID: {tenant}\r\nClient ID: {CLIENT}\r\nClient secret (value): {SECRET}\r\n")
}
