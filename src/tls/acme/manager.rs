//! All certificates that are got by ACME: a task for each, on a thread of their own.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

use super::attempt::Unreached;
use super::bell::Bell;
use super::challenge::choose::{Solver, solvers};
use super::challenge::pending::Pending;
use super::demand::clerk::{Clerk, Order};
use super::demand::shelf::Demand;
use super::demand::terms::Terms;
use super::keeper::{Keeper, Shared};
use super::names::{Wanted, wanted};
use super::roots::Roots;
use super::standing::Standing;
use super::vault::Files;
use crate::config::{Acme, Config};
use crate::helper::client::Line;
use crate::observe::metrics::WorkerMetrics;

/// Certificates that are asked for at once: more would only wait for the same authority.
const AT_ONCE: usize = 4;

/// The keepers, and what they have to tell.
#[derive(Debug)]
pub struct Manager {
    /// Where the keepers work: what they write to a slow disk holds up nobody who asks the control
    /// plane.
    runtime: Handle,
    /// That ends with this.
    _until: oneshot::Sender<()>,
    metrics: Arc<WorkerMetrics>,
    helper: Option<Line>,
    sender: UnboundedSender<()>,
    news: UnboundedReceiver<()>,
    /// What the keepers work from.
    under: Option<(Acme, Vec<Solver>)>,
    kept: Vec<Kept>,
    /// Who gets certificates on demand, once there was a site that wants them.
    clerk: Option<(UnboundedSender<Order>, AbortHandle)>,
}

/// The way to whoever keeps one certificate.
#[derive(Debug)]
pub struct Caller(To);

#[derive(Debug)]
enum To {
    Keeper(Arc<Bell>),
    Clerk(UnboundedSender<Order>, Box<str>),
}

impl Caller {
    /// Has the certificate looked at in the storage: it was revoked.
    pub fn revoked(&self) {
        match &self.0 {
            To::Keeper(bell) => bell.look(),
            // It ends with the program.
            To::Clerk(clerk, name) => drop(clerk.send(Order::Forget(name.clone()))),
        }
    }
}

#[derive(Debug)]
struct Kept {
    wanted: Wanted,
    standing: Arc<Mutex<Standing>>,
    bell: Arc<Bell>,
    task: AbortHandle,
}

impl Manager {
    /// Keeps nothing yet. Hooks are run by `helper`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(metrics: Arc<WorkerMetrics>, helper: Option<Line>) -> io::Result<Self> {
        let inside = Builder::new_current_thread().enable_all().build()?;
        let runtime = inside.handle().clone();
        let (until, end) = oneshot::channel();
        let thread = thread::Builder::new().name("certificates".to_owned());
        thread.spawn(move || inside.block_on(async { drop(end.await) }))?;
        let (sender, news) = unbounded_channel();
        let (under, kept, clerk) = (None, Vec::new(), None);
        Ok(Self { runtime, _until: until, metrics, helper, sender, news, under, kept, clerk })
    }

    /// Keeps what `config` wants from now on, and nothing else. What was wanted before in the same
    /// way is not disturbed. `served` tells what is served for the names of a certificate; what is
    /// got on demand goes to `demand`.
    pub fn keep(
        &mut self,
        config: &Config,
        roots: &Roots,
        pending: &Arc<Pending>,
        demand: &Arc<Demand>,
        served: impl Fn(&[String]) -> Option<CertificateDer<'static>>,
    ) {
        let under = (config.acme.clone(), solvers(config));
        let wanted = wanted(config);
        let is_same = self.under.as_ref() == Some(&under);
        let mut old = std::mem::take(&mut self.kept);
        let share = |news, stands_in| {
            Arc::new(Shared {
                vault: Box::new(Files::at(&config.acme.storage)),
                acme: under.0.clone(),
                solvers: under.1.clone(),
                roots: roots.clone(),
                pending: Arc::clone(pending),
                helper: self.helper.clone(),
                metrics: Arc::clone(&self.metrics),
                unreached: Unreached::default(),
                turns: Arc::new(Semaphore::new(AT_ONCE)),
                news,
                stands_in,
            })
        };
        let shared = share(self.sender.clone(), true);
        // Strangers choose these names: configured ones do not wait behind them, and what is got
        // for them is shown without a new state.
        let terms = Terms::of(config, share(unbounded_channel().0, false), roots);
        self.under = Some(under);
        self.instruct(terms, demand);
        for wanted in wanted {
            let place = old.iter().position(|kept| is_same && kept.wanted == wanted);
            let kept = match place {
                Some(place) => old.swap_remove(place),
                None => Kept::start(&self.runtime, &shared, &wanted, served(&wanted.names)),
            };
            self.kept.push(kept);
        }
        stop(&old);
    }

    /// Has the clerk work under these terms; one is found once there are any.
    fn instruct(&mut self, terms: Option<Terms>, demand: &Arc<Demand>) {
        if let (None, Some(_), Some(wishes)) = (&self.clerk, &terms, demand.inbox()) {
            let (sender, orders) = unbounded_channel();
            let task = self.runtime.spawn(Clerk::new(demand).run(wishes, orders));
            self.clerk = Some((sender, task.abort_handle()));
        }
        if let Some((clerk, _)) = &self.clerk {
            // It ends with the program.
            let _ = clerk.send(Order::Work(terms.map(Box::new)));
        }
    }

    /// Waits until what is kept is not what is served. Of several such moments that have passed one
    /// is told.
    pub async fn changed(&mut self) {
        // It cannot end: a sender is held here.
        let _ = self.news.recv().await;
        while self.news.try_recv().is_ok() {}
    }

    /// How every certificate stands.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.kept.iter().map(Kept::standing).collect()
    }

    /// Has the certificates with this name among theirs, or of this site, renewed now, or all;
    /// without `force` only those that are due or have failed. Tells how each of them stood, and
    /// whether it is asked for.
    #[must_use]
    pub fn renew(&self, name: Option<&str>, force: bool, now: SystemTime) -> Vec<(Standing, bool)> {
        let is_meant = |kept: &&Kept| {
            name.is_none_or(|name| {
                kept.wanted.site == name || kept.wanted.names.iter().any(|other| other == name)
            })
        };
        let ask = |kept: &Kept| {
            let standing = kept.standing();
            let is_asked = force || standing.is_wanting(now);
            if is_asked {
                kept.bell.force();
            }
            (standing, is_asked)
        };
        self.kept.iter().filter(is_meant).map(ask).collect()
    }

    /// Has the certificate on demand for this name renewed now, if it still may be had.
    pub fn renew_on_demand(&self, name: &str) {
        if let Some((clerk, _)) = &self.clerk {
            // It ends with the program.
            let _ = clerk.send(Order::Renew(name.into()));
        }
    }

    /// Who keeps the certificate for these names.
    #[must_use]
    pub fn keeper(&self, names: &[String]) -> Option<Caller> {
        if let Some(kept) = self.kept.iter().find(|kept| kept.wanted.names == names) {
            return Some(Caller(To::Keeper(Arc::clone(&kept.bell))));
        }
        let (clerk, _) = self.clerk.as_ref()?;
        let [name] = names else { return None };
        Some(Caller(To::Clerk(clerk.clone(), name.as_str().into())))
    }

    /// Asks nobody any more. What is under way is gone on with by whoever comes next.
    pub fn stop(&mut self) {
        stop(&std::mem::take(&mut self.kept));
        if let Some((_, clerk)) = self.clerk.take() {
            clerk.abort();
        }
        self.under = None;
    }
}

impl Kept {
    fn start(
        runtime: &Handle,
        shared: &Arc<Shared>,
        wanted: &Wanted,
        served: Option<CertificateDer<'static>>,
    ) -> Self {
        let standing = Arc::new(Mutex::new(Standing {
            site: wanted.site.clone(),
            names: wanted.names.clone(),
            ..Standing::default()
        }));
        let bell = Arc::new(Bell::default());
        let keeper = Keeper {
            shared: Arc::clone(shared),
            wanted: wanted.clone(),
            bell: Arc::clone(&bell),
            standing: Arc::clone(&standing),
            is_eager: true,
            served,
            fault: None,
        };
        let task = runtime.spawn(keeper.run()).abort_handle();
        Self { wanted: wanted.clone(), standing, bell, task }
    }

    fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn stop(kept: &[Kept]) {
    kept.iter().for_each(|kept| kept.task.abort());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// A slow disk under five thousand failures kept the control socket from answering.
    #[test]
    fn what_a_keeper_waits_for_holds_up_nobody_else() {
        let manager = Manager::start(Arc::default(), None).unwrap();
        let (finger, disk) = mpsc::channel::<()>();
        let control = Builder::new_current_thread().build().unwrap();
        control.block_on(async {
            let patience = Duration::from_secs(30);
            let slow = manager.runtime.spawn(async move { disk.recv_timeout(patience) });
            finger.send(()).unwrap();
            assert_eq!(slow.await.unwrap(), Ok(()));
        });
    }
}
