//! dpkg's database (`/var/lib/dpkg`) of packages that are unpacked and not configured, as dpkg itself would have left it:
//! dpkg in the guest goes on from here.

use std::collections::BTreeMap;
use std::io;

use super::unpack::{Unpacked, md5};
use crate::debian::deb822;
use crate::tarball::EntryKind;
use crate::tree::{Content, Inode, Kind, Spool, Tree};

const DATABASE: &str = "var/lib/dpkg";
/// Control files that dpkg does not keep.
const NOT_KEPT: [&str; 1] = ["control"];

/// Adds the database to a tree.
pub(super) struct Database<'a> {
    pub tree: &'a mut Tree,
    pub spool: &'a Spool,
    /// Modification time of the files that are made.
    pub epoch: i64,
}

impl Database<'_> {
    /// Writes the entries of `packages`. `lost` are files that other packages replaced.
    pub(super) fn write(
        &mut self,
        packages: &BTreeMap<String, Unpacked>,
        unpacked: &dyn Fn(&str) -> bool,
        lost: &BTreeMap<String, Vec<Vec<u8>>>,
    ) -> io::Result<()> {
        for directory in ["alternatives", "info", "parts", "triggers", "updates"] {
            self.directory(directory);
        }
        self.file("info/format", b"1\n")?;
        let (mut status, mut file_triggers) = (String::new(), String::new());
        let mut named_triggers: BTreeMap<String, String> = BTreeMap::new();
        for package in packages.values().filter(|package| unpacked(&package.name)) {
            status += &status_entry(package)?;
            self.info(package, lost.get(&package.name).map(Vec::as_slice).unwrap_or_default())?;
            for (trigger, noawait) in interests(package) {
                let name = stem(package);
                let line = format!("{name}{}\n", if noawait { "/noawait" } else { "" });
                if trigger.starts_with('/') {
                    file_triggers += &format!("{trigger} {line}");
                } else {
                    *named_triggers.entry(trigger).or_default() += &line;
                }
            }
        }
        self.file("status", status.as_bytes())?;
        self.insert(&format!("{DATABASE}/triggers/Lock"), b"", 0o600)?;
        self.file("triggers/Unincorp", b"")?;
        if !file_triggers.is_empty() {
            self.file("triggers/File", file_triggers.as_bytes())?;
        }
        for (trigger, lines) in named_triggers {
            if !trigger.contains('/') && !trigger.is_empty() {
                self.file(&format!("triggers/{trigger}"), lines.as_bytes())?;
            }
        }
        Ok(())
    }

    /// The files `info/PACKAGE.*`.
    fn info(&mut self, package: &Unpacked, lost: &[Vec<u8>]) -> io::Result<()> {
        let stem = stem(package);
        let mut list = Vec::new();
        for (entry, _) in package.files.iter().filter(|(entry, _)| !lost.contains(&entry.path)) {
            list.extend_from_slice(if entry.path.is_empty() { b"/." } else { b"/" });
            list.extend_from_slice(&entry.path);
            list.push(b'\n');
        }
        self.file(&format!("info/{stem}.list"), &list)?;
        for script in package.scripts.iter().filter(|file| !NOT_KEPT.contains(&file.name.as_str())) {
            let path = format!("{DATABASE}/info/{stem}.{}", script.name);
            // A name with a directory in it has no place here, as for dpkg.
            if !script.name.contains('/') {
                self.insert(&path, &script.contents, script.mode)?;
            }
        }
        if package.script("md5sums").is_none() {
            let conffiles = package.conffiles();
            let mut sums = Vec::new();
            for (entry, content) in &package.files {
                if let (EntryKind::File(_), Some(content)) = (&entry.kind, content)
                    && !conffiles.contains(&entry.path)
                {
                    sums.extend_from_slice(format!("{}  ", md5(content)?).as_bytes());
                    sums.extend_from_slice(&entry.path);
                    sums.push(b'\n');
                }
            }
            self.file(&format!("info/{stem}.md5sums"), &sums)?;
        }
        Ok(())
    }

    fn directory(&mut self, name: &str) {
        let path = format!("{DATABASE}/{name}");
        if self.tree.get(path.as_bytes()).is_none() {
            self.tree.insert(path.as_bytes(), Inode::new(Kind::Directory, 0o755, self.epoch));
        }
    }

    fn file(&mut self, name: &str, contents: &[u8]) -> io::Result<()> {
        self.insert(&format!("{DATABASE}/{name}"), contents, 0o644)
    }

    fn insert(&mut self, path: &str, contents: &[u8], mode: u32) -> io::Result<()> {
        let content: Content = self.spool.put(contents)?;
        self.tree.insert(path.as_bytes(), Inode::new(Kind::File(content), mode & 0o7777, self.epoch));
        Ok(())
    }
}

/// How files in `info` begin: packages that can be there for many architectures have theirs in the name.
pub(super) fn stem(package: &Unpacked) -> String {
    match (package.field("Multi-Arch"), package.field("Architecture")) {
        (Some("same"), Some(architecture)) => format!("{}:{architecture}", package.name),
        _ => package.name.clone(),
    }
}

/// The entry in `status`. dpkg writes it anew, in its own order, when it configures the package.
fn status_entry(package: &Unpacked) -> io::Result<String> {
    let mut text = String::new();
    let paragraph = deb822::paragraphs(&package.control).next().unwrap_or_default();
    for (name, value) in paragraph.fields() {
        // What dpkg writes itself cannot come from a package.
        if ["status", "conffiles", "triggers-pending", "triggers-awaited", "config-version"]
            .contains(&name.to_ascii_lowercase().as_str())
        {
            continue;
        }
        text += &format!("{name}: {value}\n");
        if *name == "Package" {
            text += "Status: install ok unpacked\n";
        }
    }
    let conffiles = package.conffiles();
    let mut lines = String::new();
    for path in &conffiles {
        let found = package.files.iter().find(|(entry, _)| entry.path == *path);
        if let Some((_, Some(content))) = found {
            lines += &format!(" /{} {}\n", String::from_utf8_lossy(path), md5(content)?);
        }
    }
    if !lines.is_empty() {
        text += &format!("Conffiles:\n{lines}");
    }
    Ok(text + "\n")
}

/// The triggers that a package is interested in, and whether those who activate them need not wait (deb-triggers(5)).
fn interests(package: &Unpacked) -> Vec<(String, bool)> {
    let text = String::from_utf8_lossy(package.script("triggers").unwrap_or_default()).into_owned();
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (directive, trigger) = (words.next()?, words.next()?);
        match directive {
            "interest" | "interest-await" => Some((trigger.to_owned(), false)),
            "interest-noawait" => Some((trigger.to_owned(), true)),
            _ => None,
        }
    };
    text.lines().filter_map(line).collect()
}
