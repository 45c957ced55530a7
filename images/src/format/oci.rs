//! An image as an OCI image layout (opencontainers/image-spec, version 1): a folder that container tools load.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{gzip, hash, tar};
use crate::cache::Sha256Sum;
use crate::calendar;
use crate::tree::Tree;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
/// Greatest size of an index or manifest of others.
const MAX_JSON: u64 = 4 << 20;

/// Why layouts cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The operating system refused.
    #[error("Cannot read the OCI layout {path}")]
    Io {
        /// The layout.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// Not a layout.
    #[error("{path} is no OCI image layout: {what}")]
    Format {
        /// The layout.
        path: String,
        /// What is wrong.
        what: String,
    },
}

/// Writes a tree as a layout into the empty folder `out`.
///
/// # Errors
/// What the operating system refuses.
pub fn write(tree: &Tree, epoch: u64, name: &str, out: &Path) -> io::Result<Sha256Sum> {
    let blobs = out.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let partial = blobs.join("layer");
    let file =
        BufWriter::with_capacity(1 << 18, File::options().read(true).write(true).create_new(true).open(&partial)?);
    // The hash of the archive that is not compressed names the layer; that of what is stored, its file.
    let plain = tar::write(tree, Hashing { out: gzip(file), hasher: Sha256::new() })?;
    let diff_id = Sha256Sum::from_bytes(plain.hasher.finalize().into());
    let mut file = plain.out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    io::Seek::rewind(&mut file)?;
    let (sum, size) = hash(&mut file)?;
    fs::rename(&partial, blobs.join(sum.to_string()))?;
    let created = rfc3339(epoch);
    let config = json!({
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "created": created,
        "config": { "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
        "history": [{ "created": created, "created_by": "vmm image build" }],
    });
    let (config_sum, config_size) = put(&blobs, &config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": format!("sha256:{config_sum}"), "size": config_size },
        "layers": [{ "mediaType": LAYER, "digest": format!("sha256:{sum}"), "size": size }],
    });
    let (manifest_sum, manifest_size) = put(&blobs, &manifest)?;
    let entry = json!({
        "mediaType": MANIFEST,
        "digest": format!("sha256:{manifest_sum}"),
        "size": manifest_size,
        "platform": { "architecture": "arm64", "os": "linux", "variant": "v8" },
        "annotations": { "org.opencontainers.image.ref.name": name },
    });
    write_index(out, &[entry])
}

/// Adds the images of another layout to that in `out`, so that one index has them all.
///
/// # Errors
/// [`OciError`].
pub fn merge(out: &Path, other: &Path) -> Result<Sha256Sum, OciError> {
    let io_error = |source| OciError::Io { path: other.display().to_string(), source };
    let mut entries = manifests(out)?;
    let more = manifests(other)?;
    for entry in &more {
        // What an entry leads to, and what that leads to.
        let mut waiting = vec![entry.clone()];
        while let Some(entry) = waiting.pop() {
            let name = digest(other, &entry)?;
            let source = other.join("blobs/sha256").join(&name);
            let target = out.join("blobs/sha256").join(&name);
            let (sum, _) = hash(&mut File::open(&source).map_err(io_error)?).map_err(io_error)?;
            if sum.to_string() != name {
                let what = format!("its file sha256:{name} has the hash {sum}");
                return Err(OciError::Format { path: other.display().to_string(), what });
            }
            if !target.exists() {
                fs::copy(&source, &target).map_err(io_error)?;
            }
            let kind = entry.get("mediaType").and_then(Value::as_str).unwrap_or_default();
            if kind.contains("manifest") || kind.contains("index") {
                let value = read_json(other, &source)?;
                for key in ["config", "layers", "manifests"] {
                    match value.get(key) {
                        Some(Value::Array(list)) => waiting.extend(list.iter().cloned()),
                        Some(one @ Value::Object(_)) => waiting.push(one.clone()),
                        _ => {}
                    }
                }
            }
        }
        let platform = |entry: &Value| entry.get("platform").cloned();
        if entries.iter().any(|there| platform(there).is_some() && platform(there) == platform(entry)) {
            let what = format!("both layouts have an image for the platform {}", platform(entry).unwrap_or_default());
            return Err(OciError::Format { path: other.display().to_string(), what });
        }
        entries.push(entry.clone());
    }
    let key = |entry: &Value| entry.get("platform").map(Value::to_string).unwrap_or_default();
    entries.sort_by_key(key);
    write_index(out, &entries).map_err(io_error)
}

/// Writes `oci-layout` and `index.json`; gives the hash of the latter, which covers everything.
fn write_index(out: &Path, entries: &[Value]) -> io::Result<Sha256Sum> {
    fs::write(out.join("oci-layout"), LAYOUT)?;
    let text = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
    fs::write(out.join("index.json"), &text)?;
    Ok(Sha256Sum::of(text.as_bytes()))
}

fn put(blobs: &Path, value: &Value) -> io::Result<(Sha256Sum, usize)> {
    let text = value.to_string();
    let sum = Sha256Sum::of(text.as_bytes());
    fs::write(blobs.join(sum.to_string()), &text)?;
    Ok((sum, text.len()))
}

fn read_json(layout: &Path, path: &Path) -> Result<Value, OciError> {
    let io_error = |source| OciError::Io { path: layout.display().to_string(), source };
    let mut text = Vec::new();
    File::open(path).map_err(io_error)?.take(MAX_JSON).read_to_end(&mut text).map_err(io_error)?;
    let bad =
        |error: serde_json::Error| OciError::Format { path: layout.display().to_string(), what: error.to_string() };
    serde_json::from_slice(&text).map_err(bad)
}

fn manifests(layout: &Path) -> Result<Vec<Value>, OciError> {
    let index = read_json(layout, &layout.join("index.json"))?;
    let list = index.get("manifests").and_then(Value::as_array).cloned();
    list.ok_or_else(|| OciError::Format {
        path: layout.display().to_string(),
        what: "its index has no manifests".to_owned(),
    })
}

/// The file of what a descriptor names.
fn digest(layout: &Path, entry: &Value) -> Result<String, OciError> {
    let digest = entry.get("digest").and_then(Value::as_str).unwrap_or_default();
    let name = digest.strip_prefix("sha256:").filter(|name| Sha256Sum::parse(name).is_some());
    name.map(str::to_owned).ok_or_else(|| OciError::Format {
        path: layout.display().to_string(),
        what: format!("{digest:?} is no SHA-256 digest"),
    })
}

/// The files of the layers of the arm64 image in a layout, in order.
///
/// # Errors
/// [`OciError`].
pub fn layers(layout: &Path) -> Result<Vec<PathBuf>, OciError> {
    let bad = |what: &str| OciError::Format { path: layout.display().to_string(), what: what.to_owned() };
    let is_arm64 = |entry: &&Value| entry.pointer("/platform/architecture").and_then(Value::as_str) == Some("arm64");
    let entries = manifests(layout)?;
    let entry = entries.iter().find(is_arm64).ok_or_else(|| bad("it has no image for arm64"))?;
    let blob = |entry: &Value| Ok::<_, OciError>(layout.join("blobs/sha256").join(digest(layout, entry)?));
    let manifest = read_json(layout, &blob(entry)?)?;
    let layers = manifest.get("layers").and_then(Value::as_array).ok_or_else(|| bad("its manifest has no layers"))?;
    layers.iter().map(blob).collect()
}

/// Hashes what goes through.
struct Hashing<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `2026-07-11T10:16:37Z`
fn rfc3339(seconds: u64) -> String {
    let second = seconds % 86_400;
    let (year, month, day) = calendar::date(seconds / 86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Scratch;
    use crate::tree::{Inode, Kind, Spool};

    #[test]
    fn dates_are_written() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_783_764_997, "2026-07-11T10:16:37Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }

    #[test]
    fn layouts_hang_together_and_merge() {
        let scratch = Scratch::new("oci");
        let spool = Spool::new(&scratch.0).expect("a spool");
        let mut tree = Tree::new(5);
        tree.insert(b"a", Inode::new(Kind::File(spool.put(b"x").expect("kept")), 0o644, 5));
        let [one, other] = ["one", "other"].map(|name| scratch.0.join(name));
        for layout in [&one, &other] {
            fs::create_dir(layout).expect("made");
            write(&tree, 5, "it", layout).expect("written");
        }
        assert_eq!(layers(&one).expect("layers").len(), 1);
        let error = merge(&one, &other).expect_err("the same platform").to_string();
        assert!(error.contains("both layouts"), "{error}");
        let text = fs::read_to_string(other.join("index.json")).expect("there").replace("arm64", "amd64");
        fs::write(other.join("index.json"), text).expect("written");
        merge(&one, &other).expect("merged");
        let platforms: Vec<String> = manifests(&one)
            .expect("an index")
            .iter()
            .filter_map(|entry| entry.pointer("/platform/architecture")?.as_str().map(str::to_owned))
            .collect();
        assert_eq!(platforms, ["amd64", "arm64"]);
        for entry in fs::read_dir(one.join("blobs/sha256")).expect("there") {
            let path = entry.expect("an entry").path();
            let sum = Sha256Sum::of(&fs::read(&path).expect("read")).to_string();
            assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(sum.as_str()));
        }
        fs::write(other.join("index.json"), "{\"manifests\":[{\"digest\":\"sha256:../../x\"}]}").expect("written");
        assert!(merge(&one, &other).expect_err("hostile").to_string().contains("no SHA-256 digest"));
    }
}
