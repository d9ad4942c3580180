// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sequences against a server in the process, and each of its faults.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use nemostt_triton::{
    Address, Client, ClientOptions, Error, Interrupt, ModelInfo, Tensor, TensorSpec,
    mock::{Faults, Model, Server},
};

/// Adds up the inputs of each sequence.
#[derive(Default)]
struct Sum(HashMap<i64, f32>);

impl Model for Sum {
    fn run(&mut self, id: i64, is_start: bool, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let sum = self.0.entry(id).or_default();
        if is_start {
            *sum = 0.0;
        }
        let x = inputs.iter().find(|input| input.name == "x").ok_or("no x")?;
        *sum += x.floats().ok_or("x is no FP32")?.sum::<f32>();
        Ok(vec![
            Tensor::f32("sum", &[1, 1], &[*sum]),
            Tensor::i64("n", &[1, 1], &[1]),
        ])
    }

    fn end(&mut self, id: i64) {
        self.0.remove(&id);
    }
}

fn info() -> ModelInfo {
    let spec = |name: &str, data_type: &str, shape: &[i64]| TensorSpec {
        name: name.into(),
        data_type: data_type.into(),
        shape: shape.into(),
    };
    ModelInfo {
        versions: vec!["1".into()],
        inputs: vec![spec("x", "FP32", &[-1, 2])],
        outputs: vec![spec("sum", "FP32", &[-1, 1]), spec("n", "INT64", &[-1, 1])],
        parameters: BTreeMap::from([("format".into(), "1".into())]),
    }
}

fn server() -> Server {
    Server::start("sum", info(), Sum::default()).unwrap()
}

/// Requests that do not get an answer fail after this.
const SHORT: Duration = Duration::from_millis(300);

fn client_of(servers: &[&Server], options: ClientOptions) -> Client {
    let addresses: Vec<String> = servers.iter().map(|server| server.address()).collect();
    let more: String = addresses[1..].iter().map(|address| format!(",{address}")).collect();
    let address: Address = format!("triton://{}/sum{more}", addresses[0]).parse().unwrap();
    Client::new(address, options).unwrap()
}

fn client(server: &Server, timeout: Duration) -> Client {
    let options = ClientOptions {
        timeout,
        ..Default::default()
    };
    client_of(&[server], options)
}

const LONG: Duration = Duration::from_secs(60);

fn x(value: f32) -> Vec<Tensor> {
    vec![Tensor::f32("x", &[1, 2], &[value, 0.0])]
}

fn sum(sequence: &mut nemostt_triton::Sequence, value: f32) -> Result<f32, Error> {
    let response = sequence.infer(x(value), &Interrupt::default())?;
    assert!(response.output("n").unwrap().integers().unwrap().eq([1]));
    Ok(response.output("sum").unwrap().floats().unwrap().next().unwrap())
}

/// Waits until `is_so`; what the server does is not synchronous.
fn eventually(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "it never was so");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn sequences_have_their_own_state_and_random_ids() {
    let server = server();
    let client = client(&server, LONG);
    let mut sequences = [client.sequence(0, "n").unwrap(), client.sequence(0, "n").unwrap()];
    assert_eq!(server.received(), []);
    for step in 1..=3_u8 {
        for (i, sequence) in sequences.iter_mut().enumerate() {
            let value = 1.0 + 9.0 * i as f32;
            assert_eq!(sum(sequence, value).unwrap(), f32::from(step) * value);
        }
    }
    let received = server.received();
    let starts: Vec<bool> = received.iter().map(|request| request.is_start).collect();
    assert_eq!(starts, [true, true, false, false, false, false]);
    let ids = [received[0].id, received[1].id];
    assert!(ids[0] != ids[1] && !ids.contains(&0), "{ids:?}");
    assert!(received.iter().all(|request| request.timeout == 48_000_000));
    assert_eq!(server.last_headers()["triton_grpc_error"], "true");
}

#[test]
fn dropped_sequence_is_ended_on_the_server() {
    let server = server();
    let client = client(&server, LONG);
    let mut sequence = client.sequence(0, "n").unwrap();
    sum(&mut sequence, 1.0).unwrap();
    assert_eq!(server.sequences(), 1);
    drop(sequence);
    eventually(|| server.sequences() == 0);
    assert!(server.received()[1].is_end);
    // One that never began needs no end. What it might have sent would come before the request of a later one.
    drop(client.sequence(0, "n").unwrap());
    sum(&mut client.sequence(0, "n").unwrap(), 1.0).unwrap();
    let received = server.received();
    assert!(
        received.len() <= 4 && received[2].is_start && received[2].id != received[0].id,
        "{received:?}"
    );
}

#[test]
fn sequence_whose_request_failed_is_ended_on_the_server() {
    let server = server();
    for errors_as_text in [false, true] {
        server.set_faults(Faults {
            errors_as_text,
            ..Default::default()
        });
        let client = client(&server, LONG);
        let mut sequence = client.sequence(0, "n").unwrap();
        sum(&mut sequence, 1.0).unwrap();
        assert_eq!(server.sequences(), 1);
        let wrong = vec![Tensor::i64("y", &[1], &[0])];
        sequence.infer(wrong, &Interrupt::default()).unwrap_err();
        assert_eq!(server.sequences(), 1);
        drop(sequence);
        eventually(|| server.sequences() == 0);
    }
}

#[test]
fn values_of_headers_are_not_printed() {
    let options = ClientOptions {
        headers: vec![("authorization".into(), "Bearer secret".into())],
        ..Default::default()
    };
    let client = Client::new(client(&server(), LONG).address().clone(), options.clone()).unwrap();
    let text = format!("{options:?} {client:?}");
    assert!(text.contains("authorization") && !text.contains("secret"), "{text}");
}

#[test]
fn requests_may_be_sent_ahead() {
    let server = server();
    let client = client(&server, LONG);
    let mut sequence = client.sequence(0, "n").unwrap();
    for _ in 0..50 {
        sequence.send(x(1.0));
    }
    for step in 1..=50_u8 {
        let response = sequence.receive(&Interrupt::default()).unwrap();
        let sum = response.output("sum").unwrap();
        assert!(sum.floats().unwrap().eq([f32::from(step)]));
    }
}

#[test]
fn model_is_described_with_its_parameters() {
    let server = server();
    let options = ClientOptions {
        headers: vec![("Authorization".into(), "Bearer secret".into())],
        ..Default::default()
    };
    let client = client_of(&[&server], options);
    assert_eq!(client.model(0, &Interrupt::default()).unwrap(), info());
    assert_eq!(server.last_headers()["authorization"], "Bearer secret");
    assert_eq!(
        server.last_headers()["user-agent"].to_str().unwrap().split('/').next(),
        Some("nemostt")
    );

    server.set_faults(Faults {
        is_not_ready: true,
        ..Default::default()
    });
    let error = client.model(0, &Interrupt::default()).unwrap_err();
    assert!(matches!(error, Error::NoModel { .. }), "{error}");
}

#[test]
fn header_that_cannot_be_sent_is_refused_without_its_value() {
    for (name, value) in [("a b", "x"), ("x-bin", "x"), ("name", "line\nsecret")] {
        let options = ClientOptions {
            headers: vec![(name.into(), value.into())],
            ..Default::default()
        };
        let error = Client::new("triton://a/m".parse().unwrap(), options)
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn lost_sequence_asks_for_a_new_start() {
    for errors_as_text in [false, true] {
        let server = server();
        server.set_faults(Faults {
            errors_as_text,
            ..Default::default()
        });
        let client = client(&server, LONG);
        let mut sequence = client.sequence(0, "n").unwrap();
        sum(&mut sequence, 1.0).unwrap();
        server.forget_sequences();
        let error = sum(&mut sequence, 1.0).unwrap_err();
        assert!(
            matches!(error, Error::SequenceLost { .. }) && error.is_transient(),
            "{error}"
        );
        let mut next = client.sequence(0, "n").unwrap();
        assert_eq!(sum(&mut next, 2.0).unwrap(), 2.0);
    }
}

#[test]
fn killed_server_is_noticed_at_once_and_reached_again_after_its_restart() {
    let mut server = server();
    let client = client(&server, LONG);
    let mut sequence = client.sequence(0, "n").unwrap();
    sum(&mut sequence, 1.0).unwrap();
    server.kill();
    let error = sum(&mut sequence, 1.0).unwrap_err();
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.is_transient(),
        "{error}"
    );
    let error = sum(&mut client.sequence(0, "n").unwrap(), 1.0).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&server.address()), "{error}");
    assert!(client.model(0, &Interrupt::default()).is_err());

    server.restart().unwrap();
    eventually(|| client.model(0, &Interrupt::default()).is_ok());
    assert_eq!(sum(&mut client.sequence(0, "n").unwrap(), 3.0).unwrap(), 3.0);
}

#[test]
fn server_that_does_not_answer_costs_the_timeout() {
    let server = server();
    let client = client(&server, SHORT);
    let mut sequence = client.sequence(0, "n").unwrap();
    server.set_faults(Faults {
        hangs: true,
        ..Default::default()
    });
    let start = Instant::now();
    let error = sum(&mut sequence, 1.0).unwrap_err();
    assert!(
        matches!(error, Error::Timeout { .. }) && error.is_transient(),
        "{error}"
    );
    assert!(start.elapsed() >= SHORT);
    let error = client.model(0, &Interrupt::default()).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");

    server.set_faults(Faults::default());
    assert_eq!(sum(&mut client.sequence(0, "n").unwrap(), 3.0).unwrap(), 3.0);
}

#[test]
fn connection_that_does_not_answer_is_replaced_once() {
    let server = server();
    let client = client(&server, SHORT);
    let mut sequences = [(); 8].map(|()| client.sequence(0, "n").unwrap());
    for sequence in &mut sequences {
        sum(sequence, 1.0).unwrap();
    }
    assert_eq!(server.connections(), 1);
    server.set_faults(Faults {
        hangs: true,
        ..Default::default()
    });
    std::thread::scope(|scope| {
        for sequence in &mut sequences {
            scope.spawn(|| assert!(matches!(sum(sequence, 1.0), Err(Error::Timeout { .. }))));
        }
    });
    server.set_faults(Faults::default());
    let mut others = [(); 8].map(|()| client.sequence(0, "n").unwrap());
    for sequence in &mut others {
        assert_eq!(sum(sequence, 3.0).unwrap(), 3.0);
    }
    assert_eq!(server.connections(), 2);
}

#[test]
fn headers_of_grpc_itself_are_refused() {
    let server = server();
    for name in [
        "grpc-timeout",
        "Content-Type",
        "content-length",
        "te",
        "triton_grpc_error",
    ] {
        let options = ClientOptions {
            headers: vec![(name.into(), "x".into())],
            ..Default::default()
        };
        let error = Client::new(client(&server, LONG).address().clone(), options).unwrap_err();
        assert!(error.to_string().contains(&format!("\"{name}\"")), "{error}");
    }
}

#[test]
fn sequence_without_a_place_is_told_that_the_server_is_busy() {
    let server = server();
    server.set_faults(Faults {
        max_sequences: Some(1),
        ..Default::default()
    });
    let client = client(&server, Duration::from_secs(2));
    let mut first = client.sequence(0, "n").unwrap();
    sum(&mut first, 1.0).unwrap();
    let error = sum(&mut client.sequence(0, "n").unwrap(), 1.0).unwrap_err();
    assert!(
        matches!(error, Error::Busy { is_first: true, .. }) && error.is_transient(),
        "{error}"
    );
    assert!(error.to_string().contains("max_candidate_sequences"), "{error}");
    drop(first);
    eventually(|| server.sequences() == 0);
    assert_eq!(sum(&mut client.sequence(0, "n").unwrap(), 3.0).unwrap(), 3.0);
}

#[test]
fn interrupt_ends_a_blocked_request_at_once() {
    let server = server();
    server.set_faults(Faults {
        hangs: true,
        ..Default::default()
    });
    let client = client(&server, 10 * LONG);
    let interrupt = Interrupt::default();
    let start = Instant::now();
    let error = std::thread::scope(|scope| {
        let request = scope.spawn(|| client.sequence(0, "n").unwrap().infer(x(1.0), &interrupt).unwrap_err());
        let model = scope.spawn(|| client.model(0, &interrupt).unwrap_err());
        eventually(|| server.received().len() == 1);
        interrupt.set();
        assert!(matches!(model.join().unwrap(), Error::Interrupted));
        request.join().unwrap()
    });
    assert!(matches!(error, Error::Interrupted) && !error.is_transient(), "{error}");
    assert!(start.elapsed() < 5 * LONG);
}

#[test]
fn error_of_the_model_is_that_of_its_server() {
    let server = server();
    let client = client(&server, LONG);
    let wrong = vec![Tensor::i64("y", &[1], &[0])];
    let error = client
        .sequence(0, "n")
        .unwrap()
        .infer(wrong, &Interrupt::default())
        .unwrap_err();
    assert!(error.to_string().contains("no x"), "{error}");
    assert!(error.is_transient());
}

/// Its output has a name that no message should repeat, and too few bytes.
struct Rude;

impl Model for Rude {
    fn run(&mut self, _: i64, _: bool, _: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let name = format!("\u{1b}[2J{}", "x".repeat(100_000));
        let shape = vec![1, 9];
        Ok(vec![Tensor {
            shape,
            ..Tensor::f32(&name, &[1, 1], &[0.0])
        }])
    }

    fn end(&mut self, _: i64) {}
}

#[test]
fn answer_that_cannot_be_used_is_described_in_a_limited_length() {
    let server = Server::start("sum", info(), Rude).unwrap();
    let client = client(&server, LONG);
    let mut sequence = client.sequence(0, "n").unwrap();
    let error = sequence.infer(x(1.0), &Interrupt::default()).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("[2Jxxx") && !text.contains('\u{1b}') && text.len() < 2000,
        "{text}"
    );
}

#[test]
fn calls_work_in_a_thread_of_a_runtime() {
    let server = server();
    let client = client(&server, LONG);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sum = runtime.block_on(async { sum(&mut client.sequence(0, "n").unwrap(), 1.0) });
    assert_eq!(sum.unwrap(), 1.0);
}

#[test]
fn servers_are_counted_in_the_order_of_the_address() {
    let servers = [server(), server()];
    let client = client_of(&[&servers[0], &servers[1]], ClientOptions::default());
    assert_eq!(client.servers(), 2);
    for (i, of) in [(0, 0), (1, 1), (2, 0)] {
        assert_eq!(client.sequence(i, "n").unwrap().server(), servers[of].address());
    }
}
