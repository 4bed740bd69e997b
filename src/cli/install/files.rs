//! What there is to install: the files of `config/`, with the paths of this host in them.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Command;

use super::super::{DEFAULT_CONFIG, Stop, completions};
use super::root::Root;
use crate::exit;

/// Where the first configuration goes.
pub(super) const CONFIG: &str = DEFAULT_CONFIG;
/// Where systemd reads which user is needed (sysusers.d(5)).
pub(super) const SYSUSERS: &str = "/etc/sysusers.d/portcullis.conf";
/// Where systemd reads which folders are needed (tmpfiles.d(5)).
pub(super) const TMPFILES: &str = "/etc/tmpfiles.d/portcullis.conf";
/// What audits this host every night, for whoever enables it.
pub(super) const AUDIT: &str = "portcullis-audit.timer";
const UNIT_FOLDER: &str = "/etc/systemd/system";
const LOGROTATE: &str = "/etc/logrotate.d/portcullis";
const PROGRAM: &str = "/usr/local/bin/portcullis";
const MANUAL: &str = "/usr/local/share/man/man1/portcullis.1";
const REFERENCE: &str = "/usr/local/share/doc/portcullis/reference.toml";

/// The paths that the files of `config/` name, which are those of a package.
const PACKAGED_PROGRAM: &str = "/usr/bin/portcullis";
const PACKAGED_REFERENCE: &str = "/usr/share/doc/portcullis/reference.toml";

/// The units of both variants, and those of every install; what a unit names comes before it.
pub(super) const UNITS: [Unit; 6] = [
    Unit {
        name: "portcullis.service",
        text: include_str!("../../../config/systemd/portcullis.service"),
        variant: Some(Variant::Capability),
    },
    Unit {
        name: "portcullis-http.socket",
        text: include_str!("../../../config/systemd/portcullis-http.socket"),
        variant: Some(Variant::Sockets),
    },
    Unit {
        name: "portcullis-https.socket",
        text: include_str!("../../../config/systemd/portcullis-https.socket"),
        variant: Some(Variant::Sockets),
    },
    Unit {
        name: "portcullis-sockets.service",
        text: include_str!("../../../config/systemd/portcullis-sockets.service"),
        variant: Some(Variant::Sockets),
    },
    Unit {
        name: "portcullis-audit.service",
        text: include_str!("../../../config/systemd/portcullis-audit.service"),
        variant: None,
    },
    Unit {
        name: AUDIT,
        text: include_str!("../../../config/systemd/portcullis-audit.timer"),
        variant: None,
    },
];

/// A unit of systemd, as `config/systemd/` holds it.
pub(super) struct Unit {
    pub(super) name: &'static str,
    text: &'static str,
    /// Whose it is; `None` where it goes with either.
    variant: Option<Variant>,
}

/// Who binds the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// The service, with the one capability.
    Capability,
    /// systemd; the service has no capability.
    Sockets,
}

/// One file to install.
#[derive(Debug)]
pub(super) struct File {
    /// Absolute, without the root that it goes below.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) content: Content,
    /// Whether it becomes the operator's own: written where there is none, and never again.
    pub(super) once: bool,
}

/// What a file holds.
#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    Manual(Vec<u8>),
    Reference(&'static str),
    /// The program that runs now.
    Program,
}

/// Where the program stands or goes.
#[derive(Debug)]
pub(super) struct Layout {
    /// The path that the units name.
    pub(super) program: PathBuf,
    /// Whether it has to be copied there.
    copies: bool,
}

impl Variant {
    /// Its units.
    pub(super) fn units(self) -> impl Iterator<Item = &'static str> {
        UNITS.iter().filter(move |unit| unit.variant == Some(self)).map(|unit| unit.name)
    }

    /// The one that cannot run beside it.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Capability => Self::Sockets,
            Self::Sockets => Self::Capability,
        }
    }

    /// The unit to enable.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Capability => "portcullis.service",
            Self::Sockets => "portcullis-sockets.service",
        }
    }
}

impl Layout {
    /// The program stays where it is when that is a place of the system's programs which root alone
    /// may write. From anywhere else, such as a home folder that the service cannot see, it is
    /// copied.
    pub(super) fn around(root: &Root) -> Result<Self, Stop> {
        let running = std::env::current_exe().map_err(|error| Stop {
            code: exit::FAILED,
            text: format!("cannot tell where this program is: {error}"),
        })?;
        Ok(match root.within(&running) {
            Some(inside) if is_place_of_programs(&inside) && is_of_root_alone(&running) => {
                Self { program: inside, copies: false }
            }
            _ => Self { program: PROGRAM.into(), copies: true },
        })
    }
}

/// All files of this variant, in the order in which they are written: what is named before what
/// names it.
pub(super) fn all(variant: Variant, layout: &Layout, command: Command) -> Result<Vec<File>, Stop> {
    let text = |path: &str, text: &str| File {
        path: path.into(),
        mode: 0o644,
        content: Content::Text(filled_in(text, layout)),
        once: path == CONFIG,
    };
    let mut files = Vec::new();
    if layout.copies {
        let path = layout.program.clone();
        files.push(File { path, mode: 0o755, content: Content::Program, once: false });
    }
    let manual = Content::Manual(completions::page(None, command)?);
    files.push(File { path: MANUAL.into(), mode: 0o644, content: manual, once: false });
    let reference = Content::Reference(include_str!("../../../config/reference.toml"));
    files.push(File { path: REFERENCE.into(), mode: 0o644, content: reference, once: false });
    files.extend([
        text(CONFIG, include_str!("../../../config/first.toml")),
        text(SYSUSERS, include_str!("../../../config/systemd/sysusers.d/portcullis.conf")),
        text(TMPFILES, include_str!("../../../config/systemd/tmpfiles.d/portcullis.conf")),
        text(LOGROTATE, include_str!("../../../config/logrotate/portcullis")),
    ]);
    for unit in UNITS.iter().filter(|unit| unit.variant.is_none_or(|its| its == variant)) {
        files.push(text(&format!("{UNIT_FOLDER}/{}", unit.name), unit.text));
    }
    Ok(files)
}

/// Every path that an install may have written, whatever its variant.
pub(super) fn known() -> impl Iterator<Item = PathBuf> {
    let fixed = [PROGRAM, MANUAL, REFERENCE, CONFIG, SYSUSERS, TMPFILES, LOGROTATE];
    let units = UNITS.iter().map(|unit| Path::new(UNIT_FOLDER).join(unit.name));
    fixed.into_iter().map(PathBuf::from).chain(units)
}

/// Whether a path is one of them: nothing else is removed, whatever a manifest says.
pub(super) fn is_known(path: &Path) -> bool {
    known().any(|known| known == path)
}

impl Content {
    /// What is to be written.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Manual(page) => Ok(page.clone()),
            Self::Reference(text) => Ok(text.as_bytes().to_vec()),
            // By this name the program is found even after its file was replaced.
            Self::Program => std::fs::read("/proc/self/exe"),
        }
    }
}

fn filled_in(text: &str, layout: &Layout) -> String {
    text.replace(PACKAGED_PROGRAM, &layout.program.display().to_string())
        .replace(PACKAGED_REFERENCE, REFERENCE)
}

fn is_place_of_programs(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/opt", "/nix/store", "/gnu/store"]
        .into_iter()
        .any(|place| path.starts_with(place))
}

fn is_of_root_alone(path: &Path) -> bool {
    path.ancestors().all(|part| {
        part.metadata().is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn files(variant: Variant, layout: &Layout) -> Vec<File> {
        all(variant, layout, Cli::command()).unwrap()
    }

    fn layout(program: &str) -> Layout {
        Layout { program: program.into(), copies: program == PROGRAM }
    }

    #[test]
    fn whatever_is_installed_can_be_taken_back() {
        for variant in [Variant::Capability, Variant::Sockets] {
            let files = files(variant, &layout(PROGRAM));
            assert!(files.iter().all(|file| is_known(&file.path)), "{files:?}");
            let service = Path::new(UNIT_FOLDER).join(variant.service());
            assert!(files.iter().any(|file| file.path == service), "{files:?}");
        }
        assert!(!is_known(Path::new("/etc/passwd")));
        assert!(!is_known(Path::new("/etc/systemd/system/../../passwd")));
    }

    #[test]
    fn the_files_name_the_program_and_the_reference_where_they_are() {
        for variant in [Variant::Capability, Variant::Sockets] {
            for file in files(variant, &layout("/opt/portcullis/portcullis")) {
                let Content::Text(text) = file.content else { continue };
                assert!(!text.contains(PACKAGED_PROGRAM), "{text}");
                assert!(!text.contains(PACKAGED_REFERENCE), "{text}");
                let is_audit = file.path.ends_with("portcullis-audit.service");
                let before = if is_audit { "exec " } else { "ExecReload=" };
                if file.path.extension().is_some_and(|name| name == "service") {
                    for before in [before, "ExecStart="] {
                        let start = format!("{before}/opt/portcullis/portcullis ");
                        assert!(text.contains(&start), "{start:?} in {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_program_in_its_place_is_not_copied() {
        let has_program = |layout| {
            files(Variant::Capability, &layout)
                .iter()
                .any(|file| matches!(file.content, Content::Program))
        };
        assert!(has_program(layout(PROGRAM)));
        assert!(!has_program(layout("/usr/bin/portcullis")));
    }

    #[test]
    fn a_home_folder_is_no_place_for_a_service() {
        assert!(is_place_of_programs(Path::new("/usr/local/bin/portcullis")));
        assert!(!is_place_of_programs(Path::new("/home/me/portcullis")));
        assert!(!is_place_of_programs(Path::new("/usrlocal/portcullis")));
    }
}
