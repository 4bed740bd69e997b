//! The files that a proxy was told to read when it was started.

use std::fs;
use std::path::{Path, PathBuf};

use crate::audit::inventory::Inventory;

/// A proxy, by the name of its process, and the options that name its file.
const OPTIONS: &[(&str, &[&str])] = &[
    ("nginx", &["-c"]),
    ("haproxy", &["-f"]),
    ("caddy", &["--config", "-config", "-c"]),
    ("portcullis", &["--config", "-c"]),
    ("apache2", &["-f"]),
];

/// Of the proxies that listen here, each once, with the proxy's name.
pub(super) fn files(inventory: &Inventory, root: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut files = Vec::new();
    let holders = inventory.listeners.iter().filter_map(|listener| listener.holder.as_ref());
    // The paths of a container are other files here.
    for holder in holders.filter(|holder| holder.container.is_none()) {
        let Some((proxy, options)) = OPTIONS.iter().find(|(proxy, _)| *proxy == holder.comm) else {
            continue;
        };
        let process = root.join("proc").join(holder.pid.to_string());
        let words = words(&fs::read(process.join("cmdline")).unwrap_or_default());
        // nginx takes what is relative from its prefix, others from where they were started.
        let prefix = values(&words, &["-p"]).pop().filter(|_| *proxy == "nginx");
        let from = prefix.map(PathBuf::from).or_else(|| fs::read_link(process.join("cwd")).ok());
        for value in values(&words, options) {
            let file = from.as_deref().unwrap_or_else(|| Path::new("/")).join(value);
            if !files.contains(&(*proxy, file.clone())) {
                files.push((*proxy, file));
            }
        }
    }
    files
}

/// What sshd was started with: its file, and its options as lines of one.
pub(super) fn of_sshd(inventory: &Inventory, root: &Path) -> (Option<PathBuf>, String) {
    let holders = inventory.listeners.iter().filter_map(|listener| listener.holder.as_ref());
    let sshd = holders.filter(|it| it.container.is_none()).find(|it| it.comm == "sshd");
    let Some(sshd) = sshd else { return (None, String::new()) };
    let file = root.join("proc").join(sshd.pid.to_string()).join("cmdline");
    let words = words(&fs::read(file).unwrap_or_default());
    let file = values(&words, &["-f"]).pop().map(PathBuf::from);
    (file, values(&words, &["-o"]).join("\n"))
}

/// Arguments end with a NUL each; nginx and sshd write theirs into one title.
fn words(arguments: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(arguments);
    let mut titles = ["nginx: master process ", "sshd: "].into_iter();
    let title = titles.find_map(|title| text.strip_prefix(title));
    let words: Vec<&str> = match title {
        Some(title) => title.trim_end_matches('\0').split_ascii_whitespace().collect(),
        None => text.split('\0').collect(),
    };
    words.into_iter().map(ToOwned::to_owned).collect()
}

/// `-c FILE`, `-cFILE`, `--config=FILE`
fn values(words: &[String], options: &[&str]) -> Vec<String> {
    let next = words.iter().skip(1).map(Some).chain([None]);
    let value = |(word, next): (&String, Option<&String>)| {
        options.iter().find_map(|option| {
            let rest = word.strip_prefix(option)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value.to_owned()),
                None if rest.is_empty() => next.cloned(),
                None if option.len() == 2 => Some(rest.to_owned()),
                None => None,
            }
        })
    };
    words.iter().zip(next).filter_map(value).filter(|value| !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::verdict::testing::{held, holder, host, tcp};

    fn of(proxy: &str, arguments: &str) -> Vec<PathBuf> {
        let root = tempfile::tempdir().unwrap();
        let process = root.path().join("proc/812");
        fs::create_dir_all(&process).unwrap();
        fs::write(process.join("cmdline"), arguments).unwrap();
        std::os::unix::fs::symlink("/srv", process.join("cwd")).unwrap();
        let inventory = host(vec![held(tcp(80), holder(proxy)), held(tcp(443), holder(proxy))]);
        files(&inventory, root.path()).into_iter().map(|(_, file)| file).collect()
    }

    #[test]
    fn the_file_of_its_command_line_is_a_proxy_s_own() {
        let title = "nginx: master process /usr/sbin/nginx -p /opt/web -c conf/n.conf\0\0";
        assert_eq!(of("nginx", title), [Path::new("/opt/web/conf/n.conf")]);
        assert_eq!(of("nginx", "nginx\0-c\0/x y/n.conf\0"), [Path::new("/x y/n.conf")]);
        assert_eq!(of("portcullis", "portcullis\0run\0-c\0p.toml\0"), [Path::new("/srv/p.toml")]);
        assert_eq!(of("caddy", "caddy\0run\0--config=/c/C\0"), [Path::new("/c/C")]);
        assert_eq!(of("haproxy", "haproxy\0-f\0/a\0-f\0/b\0-db\0").len(), 2);
        assert!(of("node", "node\0-c\0/a\0").is_empty());
        assert!(of("nginx", "nginx\0-c\0").is_empty());
    }

    #[test]
    fn what_such_a_file_fronts_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("n.conf"), "http { include sites/*.conf; }").unwrap();
        fs::create_dir(at("sites")).unwrap();
        let site = "server { server_name a.test; proxy_pass http://127.0.0.1:8000; }";
        fs::write(at("sites/a.conf"), site).unwrap();
        fs::write(at("sites/b.off"), site.replace("8000", "8001")).unwrap();
        fs::write(at("h.cfg"), "backend x\n  server a 127.0.0.1:9000\n").unwrap();
        let own = [("nginx", at("n.conf")), ("haproxy", at("h.cfg"))];
        let none = Path::new("/nonexistent");
        let found = super::super::proxies::fronts(none, &own, none);
        let ports: Vec<_> = found.iter().map(|front| (front.proxy, front.port)).collect();
        assert_eq!(ports, [("nginx", 8000), ("haproxy", 9000)]);
    }
}
