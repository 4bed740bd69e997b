//! What comes after an install: commands to paste, in their order.

use std::path::Path;

use super::files::{AUDIT, CONFIG, Layout, SYSUSERS, TMPFILES, Variant};
use super::plan::{Action, Step};
use super::root::Root;
use crate::audit::verdict::quoted;

/// The commands that come after, in their order: a line that begins with two spaces is one, and
/// nothing but that. There is nothing to say of an image, which does not run.
pub(super) fn lines(steps: &[Step], root: &Root, variant: Variant, layout: &Layout) -> Vec<String> {
    if !root.is_host() {
        return Vec::new();
    }
    let sudo = root.as_root();
    let is_updated =
        steps.iter().any(|step| step.file.path == layout.program && step.action == Action::Update);
    let mut lines = vec![
        "\nNext:".to_owned(),
        format!("  {sudo}systemd-sysusers {SYSUSERS}"),
        format!("  {sudo}systemd-tmpfiles --create {TMPFILES}"),
        format!("  {sudo}systemctl daemon-reload"),
        format!("Name your sites in {CONFIG}, and then:"),
        format!("  {} check", quoted(&layout.program.display().to_string())),
    ];
    if is_updated && root.is_enabled(variant.service()) {
        let service = variant.service();
        lines.push(format!("  {sudo}systemctl kill --kill-who=main --signal=USR2 {service}"));
    } else {
        lines.extend(start(root, variant));
    }
    lines.extend(audit(root));
    if !Path::new("/run/systemd/system").is_dir() {
        lines.push("systemd does not run on this host: systemctl is for when it does.".to_owned());
    }
    lines
}

/// The commands that start this variant, and end the other one first where it is enabled.
pub(super) fn start(root: &Root, variant: Variant) -> Vec<String> {
    let sudo = root.as_root();
    let other = enabled(root, variant.other());
    let mut lines = Vec::new();
    if !other.is_empty() {
        lines.push(format!("  {sudo}systemctl disable --now {}", other.join(" ")));
    }
    lines.push(format!("  {sudo}systemctl enable --now {}", variant.service()));
    lines
}

/// How to have this host audited every night, where that is not so already.
pub(super) fn audit(root: &Root) -> Vec<String> {
    if root.is_enabled(AUDIT) {
        return Vec::new();
    }
    let enable = format!("  {}systemctl enable --now {AUDIT}", root.as_root());
    vec!["To have what listens on this host audited every night:".to_owned(), enable]
}

/// The units of a variant that are enabled.
pub(super) fn enabled(root: &Root, variant: Variant) -> Vec<&'static str> {
    variant.units().filter(|unit| root.is_enabled(unit)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_audit_is_offered_until_it_is_enabled() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let enable = format!("  {}systemctl enable --now portcullis-audit.timer", root.as_root());
        assert_eq!(audit(&root).last(), Some(&enable));
        let wants = folder.path().join("etc/systemd/system/timers.target.wants");
        fs::create_dir_all(&wants).unwrap();
        symlink("/dev/null", wants.join(AUDIT)).unwrap();
        assert!(audit(&root).is_empty());
    }

    #[test]
    fn the_other_way_is_disabled_first_where_it_is_enabled() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let sudo = root.as_root();
        let enable = |wants: &str, unit: &str| {
            let wants = folder.path().join("etc/systemd/system").join(wants);
            fs::create_dir_all(&wants).unwrap();
            symlink("/dev/null", wants.join(unit)).unwrap();
        };
        let start_sockets = format!("  {sudo}systemctl enable --now portcullis-sockets.service");
        assert_eq!(start(&root, Variant::Sockets), std::slice::from_ref(&start_sockets));
        enable("multi-user.target.wants", "portcullis.service");
        let stop = format!("  {sudo}systemctl disable --now portcullis.service");
        assert_eq!(start(&root, Variant::Sockets), [stop, start_sockets]);

        enable("sockets.target.wants", "portcullis-http.socket");
        enable("multi-user.target.wants", "portcullis-sockets.service");
        let stop = format!(
            "  {sudo}systemctl disable --now portcullis-http.socket portcullis-sockets.service"
        );
        let start_service = format!("  {sudo}systemctl enable --now portcullis.service");
        assert_eq!(start(&root, Variant::Capability), [stop, start_service]);
    }
}
