//! Right clients before applications that fail: what they get must be what that fault explains, and
//! nothing else.

use http::{Method, Request};

use super::apps::{ABSENT, FAULTS, FAULTY, RESTARTING, RESTARTING_H2, hex};
use super::content::fault;
use super::dice::Dice;
use super::world::World;
use crate::harness::Body;

/// What a client got.
enum Got {
    /// The application's whole answer.
    Whole,
    /// An error of the proxy's own.
    Status(u16),
    /// An answer that was cut, and could be seen to be.
    Cut,
}

/// Asks the faulty application, with each of its faults.
pub fn faulty(world: &World, dice: &mut Dice) {
    let action = dice.pick(&FAULTS);
    let size = dice.range(200, 60_000);
    let got = ask(world, dice, FAULTY, action, size);
    let is_right = match (action, &got) {
        ("none", Got::Whole) => true,
        // Whatever stood behind the answer is nobody's.
        ("leftover", Got::Whole) => true,
        ("stall", Got::Status(504)) => true,
        ("reset-in-body" | "cut-chunks", Got::Cut) => true,
        // A reset may throw away the head, too.
        ("reset-in-body", Got::Status(502)) => true,
        ("drop" | "reset" | "reset-in-head" | "garbage", Got::Status(502)) => true,
        _ => false,
    };
    write_down(world, "faulty application", action, is_right, &got);
    world.rest(dice.pause(400));
}

/// Asks an application that is not there.
pub fn absent(world: &World, dice: &mut Dice) {
    let got = ask(world, dice, ABSENT, "refuse", 10);
    let is_right = matches!(got, Got::Status(502));
    write_down(world, "absent application", "refuse", is_right, &got);
    world.rest(dice.pause(1_000));
}

/// Asks an application that is restarted again and again.
pub fn restarting(world: &World, dice: &mut Dice) {
    let size = dice.range(1, 200_000);
    let route = dice.pick(&[RESTARTING, RESTARTING_H2]);
    let got = ask(world, dice, route, "down", size);
    let is_right = matches!(got, Got::Whole | Got::Cut | Got::Status(502));
    write_down(world, "restarting application", "restart", is_right, &got);
    world.rest(dice.pause(200));
}

fn ask(world: &World, dice: &mut Dice, route: char, action: &str, size: u64) -> Got {
    let (path, marker) = world.path(route, action, size);
    let is_secure = dice.one_in(2);
    let client = world.client(is_secure);
    let client = if is_secure && dice.one_in(2) { client.http2() } else { client };
    let method = if dice.one_in(3) { Method::POST } else { Method::GET };
    let request = Request::builder().method(method).uri(&path).body(Body::empty()).unwrap();
    match client.connect().try_send(request) {
        Err(_) => Got::Cut,
        Ok(answer) if answer.status == 200 => {
            if let Some(fault) = fault(marker, size, &answer.body) {
                panic!("another body for {}: {fault}", hex(marker));
            }
            Got::Whole
        }
        Ok(answer) => Got::Status(answer.status),
    }
}

fn write_down(world: &World, kind: &'static str, cause: &str, is_right: bool, got: &Got) {
    let outcome = match got {
        Got::Whole => "a whole answer".to_owned(),
        Got::Cut => "visibly cut".to_owned(),
        Got::Status(status) => status.to_string(),
    };
    match (is_right, got) {
        (true, Got::Whole) => world.ledger.right(kind),
        (true, _) => world.ledger.explained(kind, format!("{cause}: {outcome}")),
        (false, _) => world.ledger.unexplained(kind, format!("{cause}: {outcome}"), ""),
    }
}
