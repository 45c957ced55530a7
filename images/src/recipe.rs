//! A recipe: everything that a team wants of its image, in one TOML file that can be checked in. What packages do not do is
//! done by a script in the guest, after they are configured.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cache::Sha256Sum;
use crate::tree::{Inode, Kind, PathError, Spool, Tree, clean_path};

/// Where the guest finds what it has to do.
const PLACE: &str = ".customize";
/// Greatest size of a file that is copied in.
const MAX_FILE: u64 = 4 << 30;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// Not a recipe.
    #[error("The recipe {} cannot be read", path.display())]
    Syntax {
        /// The recipe.
        path: PathBuf,
        /// What is wrong.
        source: toml::de::Error,
    },
    /// A file that it names cannot be read.
    #[error("The recipe needs the file {}, which cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A place in the image that cannot be.
    #[error("The recipe copies a file to a place that cannot be")]
    Path(#[from] PathError),
    /// A value that cannot be.
    #[error("The recipe says {key} = {value:?}: expected {expected}")]
    Value {
        /// What is set.
        key: String,
        /// To what.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
}

/// A file for the guest: its path, its permissions, its contents; a folder has none.
type Copied = (Vec<u8>, u32, Option<Vec<u8>>);

/// A recipe, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// The suite.
    pub suite: Option<String>,
    /// What is taken without being asked for.
    pub variant: Option<String>,
    /// Mirrors.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Components of the archive.
    #[serde(default)]
    pub components: Vec<String>,
    /// Further suites.
    #[serde(default)]
    pub add_suites: Vec<String>,
    /// Packages, also such as a configuration agent: `puppet-agent`, `salt-minion`.
    #[serde(default)]
    pub include: Vec<String>,
    /// The mirrors that the image's own `sources.list` names, as `--image-mirror` has them.
    #[serde(default)]
    pub image_mirrors: Vec<String>,
    /// Packages that must not be taken.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The system to begin with in place of packages, relative to the recipe.
    pub from_tar: Option<PathBuf>,
    /// The name of the system.
    pub hostname: Option<String>,
    /// The language of the system, such as `de_DE.UTF-8`.
    pub locale: Option<String>,
    /// The time zone, such as `Europe/Berlin`.
    pub timezone: Option<String>,
    /// A script, relative to the recipe, that is run in the guest at the end.
    pub script: Option<PathBuf>,
    /// Files and folders that are copied in.
    #[serde(default, rename = "file")]
    pub files: Vec<RecipeFile>,
    /// Users.
    #[serde(default, rename = "user")]
    pub users: Vec<RecipeUser>,
    /// Where the recipe is.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// A file or folder that is copied in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// The file or folder, relative to the recipe.
    pub source: PathBuf,
    /// Its path in the image.
    pub path: String,
    /// Its permissions in octal digits; those of folders get an x for each r. Default 644, or 755 for programs.
    pub mode: Option<String>,
    /// Its owner as chown(1) has it; default `root:root`.
    pub owner: Option<String>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RecipeUser {
    /// The name; `root` is there already.
    pub name: String,
    /// The number.
    pub uid: Option<u32>,
    /// More groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The shell; default `/bin/bash`.
    pub shell: Option<String>,
    /// The hash of the password as crypt(5) has it.
    pub password_hash: Option<String>,
    /// Public keys that may log in.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
}

impl Recipe {
    /// Reads the recipe in a file.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn read(path: &Path) -> Result<Recipe, RecipeError> {
        let text = fs::read_to_string(path).map_err(|source| RecipeError::File { path: path.to_owned(), source })?;
        let recipe: Recipe =
            toml::from_str(&text).map_err(|source| RecipeError::Syntax { path: path.to_owned(), source })?;
        recipe.check()?;
        Ok(Recipe { directory: path.parent().unwrap_or(Path::new("")).to_owned(), ..recipe })
    }

    fn check(&self) -> Result<(), RecipeError> {
        let bad = |key: &str, value: &str, expected| {
            Err(RecipeError::Value { key: key.to_owned(), value: value.to_owned(), expected })
        };
        let word = |text: &str, more: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if let Some(name) = self.hostname.as_ref().filter(|name| !word(name, "-.")) {
            return bad("hostname", name, "letters, digits, - and .");
        }
        if let Some(locale) = self.locale.as_ref().filter(|name| !word(name, "_.@-")) {
            return bad("locale", locale, "a name such as en_US.UTF-8");
        }
        if let Some(zone) = self.timezone.as_ref().filter(|name| !word(name, "_/+-") || name.contains("..")) {
            return bad("timezone", zone, "a name such as Europe/Berlin");
        }
        for user in &self.users {
            if !word(&user.name, "-_.") {
                return bad("user.name", &user.name, "letters, digits, -, _ and .");
            }
            if let Some(group) = user.groups.iter().find(|name| !word(name, "-_.")) {
                return bad("user.groups", group, "names of groups");
            }
            if let Some(key) = user.ssh_keys.iter().find(|key| key.contains(['\n', '\r'])) {
                return bad("user.ssh-keys", key, "one key in each string");
            }
        }
        for file in &self.files {
            if let Some(mode) = file.mode.as_ref().filter(|mode| parse_mode(mode).is_none()) {
                return bad("file.mode", mode, "octal digits such as 0644");
            }
            if let Some(owner) = file.owner.as_ref().filter(|owner| !word(owner, "-_.:")) {
                return bad("file.owner", owner, "USER or USER:GROUP");
            }
        }
        Ok(())
    }

    /// Packages that are needed for what is asked for.
    pub fn needed_packages(&self) -> Vec<String> {
        let needs = |package: &str, wanted: bool| wanted.then(|| package.to_owned());
        let locale = self.locale.as_ref().is_some_and(|locale| locale != "C.UTF-8" && locale != "C");
        [needs("locales", locale), needs("tzdata", self.timezone.is_some())].into_iter().flatten().collect()
    }

    /// Whether anything is to be done in the guest.
    fn is_plain(&self) -> bool {
        self.script.is_none()
            && self.files.is_empty()
            && self.users.is_empty()
            && self.locale.is_none()
            && self.timezone.is_none()
    }

    /// Hash of all that it brings into the image, files included.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn hash(&self) -> Result<String, RecipeError> {
        if self.is_plain() {
            return Ok(String::new());
        }
        let mut text = self.program();
        for (path, mode, bytes) in self.copied()? {
            text += &format!(
                "{} {mode:o} {}\n",
                String::from_utf8_lossy(&path),
                bytes.map_or_else(String::new, |bytes| Sha256Sum::of(&bytes).to_string())
            );
        }
        Ok(Sha256Sum::of(text.as_bytes()).to_string())
    }

    /// Puts what the guest needs for it into the tree.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn prepare(&self, tree: &mut Tree, spool: &Spool, epoch: i64) -> Result<(), RecipeError> {
        if self.is_plain() {
            return Ok(());
        }
        let failed = |source| RecipeError::File { path: self.directory.clone(), source };
        let mut add = |path: &[u8], kind: Kind, mode| {
            tree.insert(&[PLACE.as_bytes(), b"/", path].concat(), Inode::new(kind, mode, epoch));
        };
        add(b"run", Kind::File(spool.put(self.program().as_bytes()).map_err(failed)?), 0o755);
        for (path, mode, bytes) in self.copied()? {
            let kind = match bytes {
                Some(bytes) => Kind::File(spool.put(&bytes).map_err(failed)?),
                None => Kind::Directory,
            };
            add(&path, kind, mode);
        }
        Ok(())
    }

    /// The files for the guest: paths below its folder, permissions, contents; folders have none.
    fn copied(&self) -> Result<Vec<Copied>, RecipeError> {
        let mut all = Vec::new();
        for (number, file) in self.files.iter().enumerate() {
            clean_path(file.path.as_bytes())?;
            let mode = file.mode.as_deref().and_then(parse_mode);
            copy(&self.directory.join(&file.source), format!("{number}").into_bytes(), mode, &mut all)?;
        }
        if let Some(script) = &self.script {
            copy(&self.directory.join(script), b"script".to_vec(), Some(0o755), &mut all)?;
        }
        Ok(all)
    }

    /// The script for the guest.
    fn program(&self) -> String {
        let mut text = "set -e\n".to_owned();
        if let Some(locale) = &self.locale {
            if !self.needed_packages().is_empty() && locale != "C.UTF-8" {
                let charset = locale.split('.').nth(1).unwrap_or("UTF-8");
                text += &format!("echo '{locale} {charset}' >>/etc/locale.gen\nlocale-gen\n");
            }
            text += &format!("echo 'LANG={locale}' >/etc/default/locale\n");
        }
        if let Some(zone) = &self.timezone {
            text += &format!(
                "test -e '/usr/share/zoneinfo/{zone}'\nln -sf '/usr/share/zoneinfo/{zone}' /etc/localtime\necho '{zone}' >/etc/timezone\n"
            );
        }
        for user in &self.users {
            text += &user.program();
        }
        for (number, file) in self.files.iter().enumerate() {
            let path = quote(&format!("/{}", file.path.trim_start_matches('/')));
            text += &format!("mkdir -p \"$(dirname {path})\"\ncp -RT --preserve=mode /{PLACE}/{number} {path}\n");
            if let Some(owner) = &file.owner {
                text += &format!("chown -R '{owner}' {path}\n");
            }
        }
        if self.script.is_some() {
            text += &format!("cd /root\n/{PLACE}/script\n");
        }
        text
    }
}

impl RecipeUser {
    fn program(&self) -> String {
        let name = &self.name;
        let mut text = String::new();
        let shell = quote(self.shell.as_deref().unwrap_or("/bin/bash"));
        if name != "root" {
            let uid = self.uid.map_or_else(String::new, |uid| format!("--uid {uid} "));
            text += &format!("useradd --create-home {uid}--shell {shell} '{name}'\n");
        } else if self.shell.is_some() {
            text += &format!("usermod --shell {shell} root\n");
        }
        for group in &self.groups {
            text += &format!(
                "getent group '{group}' >/dev/null || groupadd --system '{group}'\nusermod --append --groups '{group}' '{name}'\n"
            );
        }
        if let Some(hash) = &self.password_hash {
            text += &format!("usermod --password {} '{name}'\n", quote(hash));
        }
        if !self.ssh_keys.is_empty() {
            text += &format!("home=$(getent passwd '{name}' | cut -d: -f6)\nmkdir -p -m 700 \"$home/.ssh\"\n");
            for key in &self.ssh_keys {
                text += &format!("echo {} >>\"$home/.ssh/authorized_keys\"\n", quote(key));
            }
            text += &format!("chmod 600 \"$home/.ssh/authorized_keys\"\nchown -R '{name}:' \"$home/.ssh\"\n");
        }
        text
    }
}

fn parse_mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

/// A word for the shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A file, or a folder with all in it, in the order of names. Only contents and the right to execute are taken over: the
/// rest depends on the host.
fn copy(source: &Path, path: Vec<u8>, mode: Option<u32>, all: &mut Vec<Copied>) -> Result<(), RecipeError> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    let failed = |error| RecipeError::File { path: source.to_owned(), source: error };
    let metadata = fs::metadata(source).map_err(failed)?;
    if metadata.is_dir() {
        let readable = mode.unwrap_or(0o644);
        all.push((path.clone(), readable | (readable & 0o444) >> 2, None));
        let mut names = Vec::new();
        for entry in fs::read_dir(source).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort();
        for name in names {
            copy(&source.join(&name), [&path, b"/".as_slice(), name.as_bytes()].concat(), mode, all)?;
        }
        return Ok(());
    }
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(failed(io::Error::other("it is neither a folder nor a file of at most 4 GiB")));
    }
    let default = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
    all.push((path, mode.unwrap_or(default), Some(fs::read(source).map_err(failed)?)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;

    const TEXT: &str = r#"
suite = "trixie"
include = ["openssh-server", "puppet-agent"]
hostname = "node"
locale = "de_DE.UTF-8"
timezone = "Europe/Berlin"
script = "finish.sh"

[[file]]
source = "etc"
path = "/etc/app"
mode = "0640"
owner = "root:adm"

[[user]]
name = "admin"
uid = 1500
groups = ["sudo"]
ssh-keys = ["ssh-ed25519 AAAA it's me"]
"#;

    fn recipe(name: &str, text: &str) -> (Scratch, Result<Recipe, RecipeError>) {
        let scratch = Scratch::new(&format!("recipe-{name}"));
        fs::create_dir_all(scratch.0.join("etc/sub")).expect("made");
        fs::write(scratch.0.join("etc/sub/conf"), "x=1").expect("written");
        fs::write(scratch.0.join("finish.sh"), "#!/bin/sh\n").expect("written");
        fs::write(scratch.0.join("recipe.toml"), text).expect("written");
        let recipe = Recipe::read(&scratch.0.join("recipe.toml"));
        (scratch, recipe)
    }

    #[test]
    fn a_recipe_becomes_a_script_and_files() {
        let (scratch, recipe) = recipe("good", TEXT);
        let recipe = recipe.expect("a recipe");
        assert_eq!(recipe.needed_packages(), ["locales", "tzdata"]);
        let program = recipe.program();
        for line in [
            "echo 'de_DE.UTF-8 UTF-8' >>/etc/locale.gen",
            "useradd --create-home --uid 1500 --shell '/bin/bash' 'admin'",
            "usermod --append --groups 'sudo' 'admin'",
            "echo 'ssh-ed25519 AAAA it'\\''s me' >>\"$home/.ssh/authorized_keys\"",
            "cp -RT --preserve=mode /.customize/0 '/etc/app'",
            "chown -R 'root:adm' '/etc/app'",
            "/.customize/script",
        ] {
            assert!(program.lines().any(|found| found == line), "{line}\n{program}");
        }
        let syntax = std::process::Command::new("sh").args(["-n", "-c", &program]).status().expect("sh runs");
        assert!(syntax.success());
        let spool = Spool::new(&scratch.0).expect("a spool");
        let mut tree = Tree::new(1);
        recipe.prepare(&mut tree, &spool, 1).expect("prepared");
        assert_eq!(tree.get(b".customize/0/sub").expect("there").mode, 0o750);
        assert_eq!(tree.get(b".customize/0/sub/conf").expect("there").mode, 0o640);
        let before = recipe.hash().expect("hashed");
        fs::write(scratch.0.join("etc/sub/conf"), "x=2").expect("written");
        assert_ne!(recipe.hash().expect("hashed"), before, "the contents of files count");
        assert_eq!(Recipe::default().hash().expect("hashed"), "");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let error = |text: &str| {
            let error = recipe("bad", text).1.and_then(|recipe| recipe.hash()).expect_err("wrong");
            crate::explain(&error)
        };
        assert!(error("sweet = 1").contains("unknown field `sweet`"));
        assert!(error("hostname = \"a b\"").contains("letters, digits"));
        assert!(error("timezone = \"../x\"").contains("Europe/Berlin"));
        assert!(error("[[user]]\nname = \"x; rm\"").contains("user.name"));
        assert!(error("[[file]]\nsource = \"etc\"\npath = \"/a\"\nmode = \"9\"").contains("octal"));
        assert!(error("[[file]]\nsource = \"none\"\npath = \"/a\"").contains("cannot be read"));
        assert!(error("[[file]]\nsource = \"etc\"\npath = \"../a\"").contains(".."));
    }
}
