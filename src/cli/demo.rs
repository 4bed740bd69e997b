//! `portcullis demo`: a sample application with the proxy in front, to see it work.

mod app;
mod once;
mod page;
mod websocket;

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use clap::Args;

use self::app::App;
use super::run::Inherited;
use super::up::ListenArgs;
use super::up::front::{Front, Urls};
use super::{Stop, say};
use crate::audit::sockets;
use crate::config::target::{Address, Protocol};
use crate::config::{Listen, Target};
use crate::downstream::passed::Passed;
use crate::exit;
use crate::privilege::explain::{self, Host, Wanted};

/// The arguments of `portcullis demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    #[command(flatten)]
    pub(super) listen: ListenArgs,
    /// Send one request through the proxy, check the answer and end
    #[arg(long)]
    pub once: bool,
}

/// Serves the sample until a signal; returns the exit code.
#[must_use]
pub fn run(args: &DemoArgs) -> u8 {
    let inherited = Inherited::take();
    let (app, front) = match prepare(&args.listen, &inherited.passed) {
        Ok(prepared) => prepared,
        Err(stop) => return inherited.tell(&stop),
    };
    let root = front.root_certificate();
    let (verdict, checked) = mpsc::channel();
    let once = args.once;
    let code = front.serve(inherited, move |urls| {
        let address = app.address;
        if let Err(error) = app.start() {
            let text = format!("the sample application cannot start: {error}");
            let _ = verdict.send(Stop { code: exit::FAILED, text }.tell());
            return once::stop();
        }
        for url in urls.main() {
            say(&format!("{url} -> {address}"));
        }
        if !once {
            return invite(urls, &root);
        }
        let urls = urls.clone();
        thread::spawn(move || {
            let _ = verdict.send(once::check(&urls, &root));
            once::stop();
        });
    });
    checked.try_recv().unwrap_or(exit::OK).max(code)
}

fn prepare(listen: &super::up::ListenArgs, passed: &Passed) -> Result<(App, Front), Stop> {
    let app = App::bind().map_err(|error| Stop {
        code: exit::FAILED,
        text: format!("the sample application finds no free port from 8080 up: {error}"),
    })?;
    say(&format!("A sample application on {}, which speaks plain HTTP.", app.address));
    if app.moved.is_some() {
        let listen = Listen::Addr(([127, 0, 0, 1], 8080).into());
        let sockets = sockets::in_the_way(&[listen], false).unwrap_or_default();
        let wanted = Wanted::new("http", listen);
        say(&explain::taken(wanted, &sockets, &Host::read()).why);
    }
    let ip = app.address.ip().to_string();
    let target = Target { protocol: Protocol::Http, address: Address::Tcp(ip, app.address.port()) };
    let front = Front::new(&target, &[], listen, passed)?;
    front.notes.iter().for_each(|note| say(note));
    Ok((app, front))
}

/// What to try, as lines that can be copied.
fn invite(urls: &Urls, root: &Path) {
    let Some(main) = urls.main().first() else { return };
    let trust = if urls.https.is_empty() || !root.exists() {
        String::new()
    } else {
        format!(" --cacert {}", root.display())
    };
    say("\nTry it:");
    say(&format!("  curl{trust} {main}/"));
    if let (false, Some(http)) = (urls.https.is_empty(), urls.http.first()) {
        say(&format!("  curl -i {http}/"));
    }
    say(&format!(
        "  curl{trust} -i -N --http1.1 --max-time 3 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
         -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: cG9ydGN1bGxpcyBkZW1vIQ==' {main}/echo"
    ));
    if !trust.is_empty() {
        say("Or open it in a browser, which trusts the certificate after: portcullis certs trust");
    }
    say("To stop: Ctrl-C");
}
