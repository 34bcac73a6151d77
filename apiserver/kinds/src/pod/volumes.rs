//! Volumes of pods: one source each, and what every source needs. Persistent volumes share the sources.

use keelson_machinery::{Cursor, FieldErrors, names};

use super::{env, projected};
use crate::check;
use crate::core::claim;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";

/// Every source and the fields it cannot do without.
const SOURCES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("flocker", &[]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("quobyte", &["volume"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("photonPersistentDisk", &["pdID"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("portworxVolume", &["volumeID"]),
    ("csi", &[]),
    ("ephemeral", &[]),
    ("image", &[]),
    ("local", &["path"]),
];

/// Validates `volumes`; returns those without errors, which mounts may name.
pub fn list<'a>(e: &mut FieldErrors, list: &Cursor<'a>, is_pod: bool) -> Vec<(&'a str, Cursor<'a>)> {
    let mut valid: Vec<(&str, Cursor)> = Vec::new();
    for volume in list.items() {
        let mut own = FieldErrors::default();
        one(&mut own, &volume, is_pod);
        let name = volume.child("name");
        check::required_name(&mut own, &name, names::is_dns1123_label);
        if valid.iter().any(|(other, _)| *other == name.str()) {
            own.duplicate(name.path(), name.str());
        }
        if own.is_empty() {
            valid.push((name.str(), volume));
        } else {
            e.extend(own);
        }
    }
    valid
}

fn one(e: &mut FieldErrors, volume: &Cursor, is_pod: bool) {
    if !sources(e, volume) {
        e.required(volume.path(), "must specify a volume type");
    }
    let image = volume.child("image");
    if !image.is_absent() {
        if is_pod {
            check::required(e, &image.child("reference"));
        }
        check::one_of(
            e,
            &image.child("pullPolicy"),
            &["Always", "IfNotPresent", "Never"],
        );
    }
}

/// The sources of a pod's volume or of a persistent volume; whether there is one.
pub fn sources(e: &mut FieldErrors, volume: &Cursor) -> bool {
    let mut found = false;
    for (kind, required) in SOURCES {
        let source = volume.child(kind);
        if source.is_absent() {
            continue;
        }
        if found {
            e.forbidden(source.path(), ONE_TYPE);
            continue;
        }
        found = true;
        for field in *required {
            check::required(e, &source.child(field));
        }
        self::source(e, kind, &source);
    }
    found
}

/// What a source needs beyond its required fields.
fn source(e: &mut FieldErrors, kind: &str, c: &Cursor) {
    match kind {
        "emptyDir" => empty_dir(e, c),
        "hostPath" => host_path(e, c),
        "gitRepo" => local_path(e, &c.child("directory")),
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(e, &c.child("partition")),
        "secret" | "configMap" => {
            file_mode(e, &c.child("defaultMode"));
            for item in c.child("items").items() {
                key_to_path(e, &item);
            }
        }
        "nfs" if !c.child("path").str().starts_with('/') => {
            check::invalid_str(e, &c.child("path"), "must be an absolute path");
        }
        "iscsi" => iscsi(e, c),
        "flocker" => flocker(e, c),
        "downwardAPI" => {
            file_mode(e, &c.child("defaultMode"));
            for item in c.child("items").items() {
                downward_file(e, &item, c);
            }
        }
        "fc" => fibre_channel(e, c),
        "projected" => {
            file_mode(e, &c.child("defaultMode"));
            projected::sources(e, c);
        }
        "csi" => csi_driver(e, &c.child("driver")),
        "ephemeral" => {
            let template = c.child("volumeClaimTemplate");
            match template.is_absent() {
                true => e.required(template.path(), ""),
                false => claim::template(e, &template),
            }
        }
        "local" => no_backsteps(e, &c.child("path")),
        _ => {}
    }
}

fn empty_dir(e: &mut FieldErrors, c: &Cursor) {
    let limit = c.child("sizeLimit");
    if check::parse_quantity(limit.value()).is_some_and(|limit| limit.value() < 0) {
        e.forbidden(limit.path(), "SizeLimit field must be a valid resource quantity");
    }
}

fn host_path(e: &mut FieldErrors, c: &Cursor) {
    no_backsteps(e, &c.child("path"));
    check::one_of_or_absent(
        e,
        &c.child("type"),
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
    );
}

fn partition(e: &mut FieldErrors, c: &Cursor) {
    if !(0..=255).contains(&c.i64().unwrap_or(0)) {
        check::invalid_int(e, c, "must be between 0 and 255, inclusive");
    }
}

fn iscsi(e: &mut FieldErrors, c: &Cursor) {
    let iqn = c.child("iqn");
    let known = ["iqn", "eui", "naa"];
    if !iqn.str().is_empty() && !known.iter().any(|prefix| iqn.str().starts_with(prefix)) {
        check::invalid_str(e, &iqn, "must be valid format");
    }
    partition(e, &c.child("lun"));
    let chap = ["chapAuthDiscovery", "chapAuthSession"]
        .iter()
        .any(|key| c.child(key).bool() == Some(true));
    if chap && c.child("secretRef").is_absent() {
        e.required(c.child("secretRef").path(), "");
    }
}

fn flocker(e: &mut FieldErrors, c: &Cursor) {
    let (name, uuid) = (c.child("datasetName"), c.child("datasetUUID"));
    match (name.str().is_empty(), uuid.str().is_empty()) {
        (true, true) => e.required(c.path(), "one of datasetName and datasetUUID is required"),
        (false, false) => e.invalid(
            c.path(),
            "resource",
            "datasetName and datasetUUID can not be specified simultaneously",
        ),
        _ => {}
    }
    if name.str().contains('/') {
        check::invalid_str(e, &name, "must not contain '/'");
    }
}

fn fibre_channel(e: &mut FieldErrors, c: &Cursor) {
    let (wwns, wwids, lun) = (c.child("targetWWNs"), c.child("wwids"), c.child("lun"));
    if wwns.is_empty() && wwids.is_empty() {
        e.required(
            wwns.path(),
            "must specify either targetWWNs or wwids, but not both",
        );
    }
    if !wwns.is_empty() && !wwids.is_empty() {
        check::invalid(
            e,
            &wwns,
            "targetWWNs and wwids can not be specified simultaneously",
        );
    }
    if !wwns.is_empty() {
        match lun.is_absent() {
            true => e.required(lun.path(), "lun is required if targetWWNs is specified"),
            false => partition(e, &lun),
        }
    }
}

/// The name of a CSI driver.
pub fn csi_driver(e: &mut FieldErrors, c: &Cursor) {
    const BYTES_MAX: usize = 63;
    check::required(e, c);
    if c.str().len() > BYTES_MAX {
        e.too_long(c.path(), BYTES_MAX);
    }
    for message in names::is_dns1123_subdomain(&c.str().to_lowercase()) {
        check::invalid_str(e, c, message);
    }
}

/// One file of a Secret or ConfigMap in a volume.
pub fn key_to_path(e: &mut FieldErrors, c: &Cursor) {
    check::required(e, &c.child("key"));
    check::required(e, &c.child("path"));
    local_path(e, &c.child("path"));
    file_mode(e, &c.child("mode"));
}

/// One file of the downward API; errors stand at `at`, the whole volume, as upstream has them.
pub fn downward_file(e: &mut FieldErrors, item: &Cursor, at: &Cursor) {
    let c = Cursor::at(item.value(), at.path().clone());
    check::required(e, &c.child("path"));
    local_path(e, &c.child("path"));
    let (field, resource) = (c.child("fieldRef"), c.child("resourceFieldRef"));
    if !field.is_absent() {
        env::field_ref(e, &field, env::VOLUME_FIELDS);
        if !resource.is_absent() {
            e.invalid(
                c.path(),
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            );
        }
    } else if resource.is_absent() {
        e.required(c.path(), "one of fieldRef and resourceFieldRef is required");
    } else {
        env::resource_field_ref(e, &resource, true);
    }
    file_mode(e, &c.child("mode"));
}

fn file_mode(e: &mut FieldErrors, c: &Cursor) {
    if c.i64().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        check::invalid_int(e, c, FILE_MODE);
    }
}

/// Relative, without `..`.
pub fn descending_path(e: &mut FieldErrors, c: &Cursor) {
    if c.str().starts_with('/') {
        check::invalid_str(e, c, "must be a relative path");
    }
    no_backsteps(e, c);
}

/// A path without `..`.
pub fn no_backsteps(e: &mut FieldErrors, c: &Cursor) {
    if has_backsteps(c.str()) {
        check::invalid_str(e, c, "must not contain '..'");
    }
}

pub fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// Relative, without `..` as a part or at the start.
pub fn local_path(e: &mut FieldErrors, c: &Cursor) {
    descending_path(e, c);
    if c.str().starts_with("..") && !c.str().starts_with("../") {
        check::invalid_str(e, c, "must not start with '..'");
    }
}
