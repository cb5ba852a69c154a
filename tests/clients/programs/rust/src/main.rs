//! The scenario of ../../README.md with rust_socketio: URL MODE NAME.
//! The client can neither acknowledge an event nor mix bytes with other arguments, so some lines are left out.

use rust_socketio::client::Client;
use rust_socketio::{ClientBuilder, Event, Payload, RawClient, TransportType};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CONTENT: [u8; 3] = [0, 16, 255];
const PATIENCE: Duration = Duration::from_secs(20);

fn report(line: &str) {
    println!("{line}");
}

fn numbered(event: &'static str) -> impl FnMut(Payload, RawClient) + Send {
    move |payload, _| match payload {
        Payload::Text(values) => report(&format!("{event} {}", values[0])),
        _ => report(&format!("failed: {event}")),
    }
}

fn play_once(client: &Client) -> Result<(), rust_socketio::Error> {
    let sent = json!(["naïve ☃ 🜁", 7, {"a": [1]}]);
    let expected = json!([sent]);
    client.emit_with_ack("echo", json!(sent), PATIENCE, move |payload: Payload, _: RawClient| {
        let same = matches!(&payload, Payload::Text(values) if json!(values) == json!([expected]) || json!(values) == expected);
        report(if same { "echo" } else { "failed: echo" });
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let address = format!("{}/?name={}", arguments[1], arguments[3]);
    let transport = match arguments[2].as_str() {
        "polling" => TransportType::Polling,
        "websocket" => TransportType::Websocket,
        _ => TransportType::WebsocketUpgrade,
    };
    let connects = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = Mutex::new(sender);
    let counter = connects.clone();
    let client = ClientBuilder::new(address)
        .transport_type(transport)
        .reconnect(true)
        .reconnect_on_disconnect(true)
        .reconnect_delay(50, 200)
        .max_reconnect_attempts(255)
        .on(Event::Connect, move |_, _| {
            report("connected");
            if counter.fetch_add(1, Ordering::SeqCst) == 0 {
                let _ = sender.lock().expect("the lock is free").send(());
            }
        })
        .on("news", numbered("news"))
        .on("job", numbered("job"))
        .on("bytes", |payload, _| {
            let same = matches!(&payload, Payload::Binary(bytes) if bytes[..] == CONTENT);
            report(if same { "bytes" } else { "failed: bytes" });
        })
        .connect()
        .expect("a connection");
    receiver.recv().expect("a CONNECT packet");
    if let Err(problem) = play_once(&client) {
        report(&format!("failed: {problem}"));
    }
    loop {
        std::thread::park();
    }
}
