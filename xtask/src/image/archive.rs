// SPDX-License-Identifier: Apache-2.0
//! An image of one file, as an archive in the layout of the OCI image specification 1.1: the same
//! bytes for the same program.

use std::{fs::File, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    ANNOTATION_LICENSES, ANNOTATION_REF_NAME, ANNOTATION_TITLE, ANNOTATION_VERSION, Arch,
    ConfigBuilder, Descriptor, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder,
    MediaType, OciLayoutBuilder, Os, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use sha2::{Digest as _, Sha256};

/// Where the program is in the image.
const PROGRAM: &str = "sixfour";

/// What is in the image.
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) architecture: Arch,
    pub(super) program: &'a [u8],
}

/// A file of the archive that is known by its digest.
struct Blob {
    digest: Sha256Digest,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Result<Self> {
        Ok(Self { digest: digest(&bytes)?, bytes })
    }

    fn json(value: &impl serde::Serialize) -> Result<Self> {
        Self::new(serde_json::to_vec(value)?)
    }

    fn descriptor(&self, kind: MediaType) -> Result<Descriptor> {
        Ok(Descriptor::new(kind, self.bytes.len().try_into()?, self.digest.clone()))
    }
}

/// Writes the archive, and returns the digest of the image's manifest.
///
/// # Errors
///
/// If it cannot be written.
pub(super) fn write(path: &Path, image: &Image<'_>) -> Result<String> {
    let files = layer(image.program)?;
    let unpacked = digest(&files)?;
    let mut packer = GzBuilder::new().write(Vec::new(), Compression::best());
    packer.write_all(&files)?;
    let layer = Blob::new(packer.finish()?)?;

    let annotations = [
        (ANNOTATION_TITLE, "Sixfour"),
        (ANNOTATION_VERSION, image.version),
        (ANNOTATION_LICENSES, env!("CARGO_PKG_LICENSE")),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let run = ConfigBuilder::default()
        .entrypoint(vec![format!("/{PROGRAM}")])
        .cmd(vec!["run".to_owned()])
        .build()?;
    let rootfs = RootFsBuilder::default()
        .typ("layers".to_owned())
        .diff_ids(vec![format!("sha256:{}", unpacked.digest())])
        .build()?;
    let config = ImageConfigurationBuilder::default()
        .architecture(image.architecture.clone())
        .os(Os::Linux)
        .config(run)
        .rootfs(rootfs)
        .build()?;
    let config = Blob::json(&config)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config.descriptor(MediaType::ImageConfig)?)
        .layers(vec![layer.descriptor(MediaType::ImageLayerGzip)?])
        .build()?;
    // A map of its own order would not be the same each time.
    let mut manifest = serde_json::to_value(&manifest)?;
    manifest["annotations"] = annotations.into_iter().collect();
    let manifest = Blob::json(&manifest)?;
    let index = index(image, manifest.descriptor(MediaType::ImageManifest)?)?;

    let parent = path.parent().context("an archive is in a folder")?;
    std::fs::create_dir_all(parent)?;
    let mut archive = tar::Builder::new(File::create(path).context("creating the archive")?);
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
    append(&mut archive, "oci-layout", 0o644, &serde_json::to_vec(&layout)?)?;
    append(&mut archive, "index.json", 0o644, &index)?;
    for blob in [&manifest, &config, &layer] {
        let name = format!("blobs/sha256/{}", blob.digest.digest());
        append(&mut archive, &name, 0o644, &blob.bytes)?;
    }
    archive.into_inner()?.sync_all()?;
    Ok(format!("sha256:{}", manifest.digest.digest()))
}

/// The index: which image this is, and what it is called. containerd looks for a name of its own.
fn index(image: &Image<'_>, manifest: Descriptor) -> Result<Vec<u8>> {
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![manifest])
        .build()?;
    let mut index = serde_json::to_value(&index)?;
    let full = match image.name.split_once('/') {
        Some(_) => image.name.to_owned(),
        None => format!("docker.io/library/{}", image.name),
    };
    let tag = image.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let entry = &mut index["manifests"][0];
    entry["annotations"] =
        [(ANNOTATION_REF_NAME, tag), ("io.containerd.image.name", &full)].into_iter().collect();
    let architecture = image.architecture.to_string();
    entry["platform"] =
        [("architecture", architecture.as_str()), ("os", "linux")].into_iter().collect();
    Ok(serde_json::to_vec(&index)?)
}

/// The file system of the image.
fn layer(program: &[u8]) -> Result<Vec<u8>> {
    let mut files = tar::Builder::new(Vec::new());
    append(&mut files, PROGRAM, 0o755, program)?;
    Ok(files.into_inner()?)
}

/// Adds a file of root's, without a time.
fn append(
    archive: &mut tar::Builder<impl std::io::Write>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(bytes.len().try_into()?);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, name, bytes).with_context(|| format!("archiving {name}"))
}

fn digest(bytes: &[u8]) -> Result<Sha256Digest> {
    use std::{fmt::Write as _, str::FromStr as _};
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}")?;
    }
    Ok(Sha256Digest::from_str(&text)?)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, io::Read as _};

    use flate2::read::GzDecoder;
    use serde_json::Value;

    use super::*;

    fn image(program: &[u8]) -> Image<'_> {
        Image { name: "sixfour:1.2", version: "1.2.0", architecture: Arch::Amd64, program }
    }

    /// The files of an archive, with their modes.
    fn unpack(bytes: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap();
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            let _: usize = entry.read_to_end(&mut bytes).unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, 0));
            let name = entry.path().unwrap().display().to_string();
            (name, (entry.header().mode().unwrap(), bytes))
        };
        entries.map(read).collect()
    }

    #[test]
    fn each_blob_is_where_its_digest_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image/sixfour.oci.tar");
        let digest = write(&path, &image(b"a program")).unwrap();
        let files = unpack(&fs::read(path).unwrap());
        let json = |name: &str| serde_json::from_slice::<Value>(&files[name].1).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = &files[&format!("blobs/sha256/{digest}")].1;
            assert_eq!(super::digest(bytes).unwrap().digest(), digest);
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
        let entry = json("index.json")["manifests"][0].clone();
        assert_eq!(entry["digest"], *digest);
        assert_eq!(entry["platform"]["architecture"], "amd64");
        let names = &entry["annotations"];
        assert_eq!(names["org.opencontainers.image.ref.name"], "1.2");
        assert_eq!(names["io.containerd.image.name"], "docker.io/library/sixfour:1.2");
        let manifest: Value = serde_json::from_slice(&blob(&entry)).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/sixfour");
        let mut layer = Vec::new();
        let packed = blob(&manifest["layers"][0]);
        let _: usize = GzDecoder::new(packed.as_slice()).read_to_end(&mut layer).unwrap();
        let unpacked = super::digest(&layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", unpacked.digest()));
        let only = BTreeMap::from([("sixfour".to_owned(), (0o755, b"a program".to_vec()))]);
        assert_eq!(unpack(&layer), only);
    }

    #[test]
    fn the_same_program_makes_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let path = directory.path().join(name);
            let digest = write(&path, &image(&vec![7; 100_000])).unwrap();
            (digest, fs::read(path).unwrap())
        };
        assert_eq!(made("one"), made("two"));
    }
}
