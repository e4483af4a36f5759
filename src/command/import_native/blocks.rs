//! What the `<office365>` blocks of an `ossec.conf` say. No I/O here.
//!
//! All blocks of a file configure one module: the last `<enabled>` holds for all of it, and a block
//! without subscriptions has those of the blocks before. Of two `<api_auth>` for the same tenant the
//! later one counts.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use roxmltree::Node;
use secrecy::SecretString;

use crate::config::{Cloud, ContentType, Flaw, is_invisible, parse_guid, unusable};
use crate::wazuh::ossec_conf::{self, BEFORE, line_of};

/// What the built-in module was told.
pub(super) struct Native {
    pub(super) blocks: Vec<Block>,
    pub(super) enabled: bool,
    pub(super) tenants: Vec<Found>,
    /// What cannot be taken over, each with its line.
    pub(super) flaws: Vec<(usize, Flaw)>,
}

/// Where an `<office365>` stands, and each `<api_auth>` in it.
pub(super) struct Block {
    pub(super) lines: RangeInclusive<usize>,
    pub(super) auths: Vec<Auth>,
}

pub(super) struct Auth {
    pub(super) lines: RangeInclusive<usize>,
    /// If it is one, whatever else is wrong.
    pub(super) tenant_id: Option<String>,
}

/// A tenant of the built-in module.
pub(super) struct Found {
    pub(super) line: usize,
    pub(super) tenant_id: String,
    pub(super) client_id: String,
    pub(super) secret: Secret,
    pub(super) cloud: Cloud,
    pub(super) content_types: Vec<ContentType>,
}

/// Where the built-in module has a client secret from.
pub(super) enum Secret {
    Value(SecretString),
    File(PathBuf),
}

/// Reads the blocks; one that is wrong hides no other.
///
/// # Errors
/// The line at which the text stops being XML. (Not the parser's words: they may quote a secret.)
pub(super) fn parse(text: &str) -> Result<Native, usize> {
    let mut reader = Reader {
        text,
        native: Native {
            blocks: Vec::new(),
            enabled: true,
            tenants: Vec::new(),
            flaws: Vec::new(),
        },
    };
    ossec_conf::read(text, |all| {
        let roots = all.children().filter(|node| {
            ["ossec_config", "agent_config"]
                .iter()
                .any(|root| node.has_tag_name(*root))
        });
        let mut subscriptions = Vec::new();
        for block in roots.flat_map(|root| elements(root, "office365")) {
            reader.block(block, &mut subscriptions);
        }
    })
    .map_err(|fault| fault.pos().row as usize)?;
    Ok(reader.native)
}

struct Reader<'a> {
    text: &'a str,
    native: Native,
}

impl Reader<'_> {
    fn block(&mut self, block: Node<'_, '_>, subscriptions: &mut Vec<ContentType>) {
        let auths = elements(block, "api_auth").map(|auth| Auth {
            lines: self.lines(auth),
            tenant_id: elements(auth, "tenant_id")
                .last()
                .and_then(|node| parse_guid(&value(node))),
        });
        let auths = auths.collect();
        let lines = self.lines(block);
        self.native.blocks.push(Block { lines, auths });
        for enabled in elements(block, "enabled") {
            match value(enabled).as_str() {
                "yes" => self.native.enabled = true,
                "no" => self.native.enabled = false,
                _ => self.refuse(
                    enabled,
                    "<enabled> is neither yes nor no",
                    "write one of them",
                ),
            }
        }
        let own = self.subscriptions(block);
        if !own.is_empty() {
            *subscriptions = own;
        }
        for auth in elements(block, "api_auth") {
            if subscriptions.is_empty() {
                self.refuse(
                    auth,
                    "its block names no content type",
                    "name one in <subscription>",
                );
            } else if let Some(found) = self.tenant(auth, subscriptions) {
                let tenants = &mut self.native.tenants;
                tenants.retain(|earlier| earlier.tenant_id != found.tenant_id);
                tenants.push(found);
            }
        }
    }

    fn subscriptions(&mut self, block: Node<'_, '_>) -> Vec<ContentType> {
        let mut known = Vec::new();
        let all = elements(block, "subscriptions")
            .flat_map(|subscriptions| elements(subscriptions, "subscription"));
        for subscription in all {
            match ContentType::parse(&value(subscription)) {
                Some(content_type) if known.contains(&content_type) => {}
                Some(content_type) => known.push(content_type),
                None => {
                    let names = ContentType::ALL.map(ContentType::as_str).join(", ");
                    let cure = format!("there are {names}");
                    self.refuse(subscription, "<subscription> is no content type", &cure);
                }
            }
        }
        known
    }

    fn tenant(&mut self, auth: Node<'_, '_>, content_types: &[ContentType]) -> Option<Found> {
        // All that is wrong with it is said at once.
        let tenant_id = self.guid(auth, "tenant_id");
        let client_id = self.guid(auth, "client_id");
        let secret = self.secret(auth);
        let cloud = self.cloud(auth);
        let (tenant_id, client_id) = (tenant_id?, client_id?);
        if tenant_id == client_id {
            self.refuse(
                auth,
                "<tenant_id> and <client_id> are the same",
                "copy each from the app registration's overview page in Azure",
            );
            return None;
        }
        Some(Found {
            line: self.line(auth),
            tenant_id,
            client_id,
            secret: secret?,
            cloud: cloud?,
            content_types: content_types.to_vec(),
        })
    }

    fn guid(&mut self, auth: Node<'_, '_>, name: &str) -> Option<String> {
        let Some(node) = elements(auth, name).last() else {
            self.refuse(auth, &format!("<{name}> is missing"), "write it there");
            return None;
        };
        let written = value(node);
        let guid = parse_guid(&written);
        if guid.is_none() {
            let what = if written.contains(is_invisible) {
                "has characters that cannot be seen"
            } else {
                "is no GUID"
            };
            self.refuse(
                node,
                &format!("<{name}> {what}"),
                "copy it from the app registration's overview page in Azure",
            );
        }
        guid
    }

    fn secret(&mut self, auth: Node<'_, '_>) -> Option<Secret> {
        let of = |name| elements(auth, name).last().map(value);
        match (of("client_secret"), of("client_secret_path")) {
            (Some(secret), None) if secret.contains(char::REPLACEMENT_CHARACTER) => {
                self.refuse(auth, "<client_secret> is no UTF-8 text", "write it anew");
            }
            (Some(secret), None) => match unusable(&secret) {
                None => return Some(Secret::Value(SecretString::from(secret))),
                Some(Flaw { what, cure }) => {
                    self.refuse(auth, &format!("<client_secret> {what}"), &cure);
                }
            },
            (None, Some(path)) if !path.is_empty() => return Some(Secret::File(path.into())),
            (None, Some(_)) => self.refuse(auth, "<client_secret_path> is empty", "name the file"),
            (Some(_), Some(_)) => self.refuse(
                auth,
                "it has both <client_secret> and <client_secret_path>",
                "leave one of them",
            ),
            (None, None) => self.refuse(auth, "<client_secret> is missing", "write it there"),
        }
        None
    }

    fn cloud(&mut self, auth: Node<'_, '_>) -> Option<Cloud> {
        let Some(node) = elements(auth, "api_type").last() else {
            return Some(Cloud::Commercial);
        };
        match value(node).as_str() {
            "commercial" => Some(Cloud::Commercial),
            "gcc" => Some(Cloud::Gcc),
            "gcc-high" => Some(Cloud::GccHigh),
            _ => {
                let cure = "write commercial, gcc or gcc-high";
                self.refuse(node, "<api_type> is none that the module knows", cure);
                None
            }
        }
    }

    fn refuse(&mut self, node: Node<'_, '_>, what: &str, cure: &str) {
        let line = self.line(node);
        self.native.flaws.push((line, Flaw::new(what, cure)));
    }

    fn line(&self, node: Node<'_, '_>) -> usize {
        *self.lines(node).start()
    }

    fn lines(&self, node: Node<'_, '_>) -> RangeInclusive<usize> {
        let of = |at: usize| line_of(self.text, at.saturating_sub(BEFORE.len()));
        of(node.range().start)..=of(node.range().end)
    }
}

fn elements<'a, 'input: 'a>(
    node: Node<'a, 'input>,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children()
        .filter(move |child| child.has_tag_name(name))
}

/// The text of an element, comments in it left out.
fn value(node: Node<'_, '_>) -> String {
    let texts = node.children().filter(Node::is_text);
    let text: String = texts.filter_map(|text| text.text()).collect();
    ossec_conf::said(text.trim()).into_owned()
}
