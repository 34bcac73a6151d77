//! Volume mounts and block devices of a container.

use keelson_machinery::{Cursor, FieldErrors};

use super::{Context, volumes};
use crate::check;

/// `volumeMounts` and `volumeDevices` of a container.
pub fn container(e: &mut FieldErrors, c: &Cursor, ctx: &Context) {
    let (list, device_list) = (c.child("volumeMounts"), c.child("volumeDevices"));
    let mut paths: Vec<&str> = Vec::new();
    for mount in list.items() {
        self::mount(e, &mount, &list, c, ctx);
        let path = mount.child("mountPath");
        check::required(e, &path);
        if paths.contains(&path.str()) {
            check::invalid_str(e, &path, "must be unique");
        }
        paths.push(path.str());
        if has(&device_list, "name", mount.child("name").str()) {
            check::invalid_str(e, &mount.child("name"), "must not already exist in volumeDevices");
        }
        if has(&device_list, "devicePath", path.str()) {
            check::invalid_str(e, &path, "must not already exist as a path in volumeDevices");
        }
    }
    devices(e, &device_list, &list, ctx);
}

fn has(list: &Cursor, key: &str, value: &str) -> bool {
    list.items().any(|item| item.child(key).str() == value)
}

fn mount(e: &mut FieldErrors, c: &Cursor, list: &Cursor, container: &Cursor, ctx: &Context) {
    let name = c.child("name");
    check::required(e, &name);
    let volume = ctx.volume(name.str());
    if volume.is_none() {
        e.not_found(name.path(), name.str());
    }
    let (sub_path, expression) = (c.child("subPath"), c.child("subPathExpr"));
    if volume.is_some_and(|volume| !volume.child("image").is_absent()) {
        for path in [&sub_path, &expression] {
            if !path.str().is_empty() {
                check::invalid_str(e, path, "not allowed in image volume sources");
            }
        }
    }
    // Upstream reports these at the list, without the index.
    let at = |key: &'static str| Cursor::at(c.child(key).value(), list.path().child(key));
    if !sub_path.str().is_empty() {
        volumes::descending_path(e, &at("subPath"));
    }
    if !expression.str().is_empty() {
        if !sub_path.str().is_empty() {
            check::invalid_str(e, &expression, "subPathExpr and subPath are mutually exclusive");
        }
        volumes::descending_path(e, &at("subPathExpr"));
    }
    propagation(e, &at("mountPropagation"), container);
    recursive_read_only(e, c, &at("recursiveReadOnly"));
}

fn propagation(e: &mut FieldErrors, c: &Cursor, container: &Cursor) {
    check::one_of_or_absent(e, c, &["Bidirectional", "HostToContainer", "None"]);
    let privileged = container.child("securityContext").child("privileged").bool() == Some(true);
    if c.str() == "Bidirectional" && !privileged {
        e.forbidden(
            c.path(),
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
}

fn recursive_read_only(e: &mut FieldErrors, mount: &Cursor, c: &Cursor) {
    check::one_of_or_absent(e, c, &["Disabled", "Enabled", "IfPossible"]);
    if ["Enabled", "IfPossible"].contains(&c.str()) {
        if mount.child("readOnly").bool() != Some(true) {
            e.forbidden(c.path(), "may only be specified when readOnly is true");
        }
        if !["", "None"].contains(&mount.child("mountPropagation").str()) {
            e.forbidden(
                c.path(),
                "may only be specified when mountPropagation is None or not specified",
            );
        }
    }
}

fn devices(e: &mut FieldErrors, list: &Cursor, mounts: &Cursor, ctx: &Context) {
    let (mut names, mut paths): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for device in list.items() {
        let (name, path) = (device.child("name"), device.child("devicePath"));
        check::required(e, &name);
        if !name.str().is_empty() && names.contains(&name.str()) {
            check::invalid_str(e, &name, "must be unique");
        }
        names.push(name.str());
        match ctx.volume(name.str()) {
            None => e.not_found(name.path(), name.str()),
            Some(volume)
                if volume.child("persistentVolumeClaim").is_absent()
                    && volume.child("ephemeral").is_absent() =>
            {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                check::invalid_str(e, &name, detail);
            }
            Some(_) => {}
        }
        check::required(e, &path);
        if paths.contains(&path.str()) {
            check::invalid_str(e, &path, "must be unique");
        }
        match volumes::has_backsteps(path.str()) {
            true => check::invalid_str(e, &path, "can not contain backsteps ('..')"),
            false => paths.push(path.str()),
        }
        if has(mounts, "name", name.str()) {
            check::invalid_str(e, &name, "must not already exist in volumeMounts");
        }
        if has(mounts, "mountPath", path.str()) {
            check::invalid_str(e, &path, "must not already exist as a path in volumeMounts");
        }
    }
}
