//! What a received PCM stream costs: one process sends N Opus streams over loopback, another receives them as 10 ms
//! frames of 48 kHz and measures its own CPU time.
//!
//! `cargo run --release -p greenroom-peer --example pcm_capacity [streams] [seconds]` prints one JSON line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use greenroom_peer::audio::sink::AudioFormat;
use greenroom_peer::{Engine, Event, MediaKind};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "send") {
        return send(args[1].parse().unwrap());
    }
    let streams: usize = args.first().map_or(100, |arg| arg.parse().unwrap());
    let seconds: u64 = args.get(1).map_or(10, |arg| arg.parse().unwrap());
    receive(streams, seconds);
}

/// SDP in one line.
fn folded(sdp: &str) -> String {
    sdp.replace("\r\n", "\\n")
}

fn unfolded(line: &str) -> String {
    line.trim().replace("\\n", "\r\n")
}

fn send(streams: usize) {
    let engine = Engine::new(1).unwrap();
    let peer = engine.add_peer().unwrap();
    let sources: Vec<_> = (0..streams).map(|_| engine.audio_input(16_000, 1, 1000).unwrap()).collect();
    for (index, source) in sources.iter().enumerate() {
        peer.send_audio(source, &format!("track{index}"), "bench", 24_000, false, false).unwrap();
    }
    println!("{}", folded(&peer.create_offer(false).unwrap()));
    let mut lines = std::io::stdin().lock().lines();
    peer.set_answer(&unfolded(&lines.next().unwrap().unwrap())).unwrap();
    // Speech-like enough for the decoder: a wandering tone with noise.
    let mut random = 1u32;
    let mut at = 0.0f64;
    let pcm: Vec<i16> = (0..16_000 * 4)
        .map(|n| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            at += (180.0 + 60.0 * (n as f64 / 3000.0).sin()) / 16_000.0 * std::f64::consts::TAU;
            (8000.0 * at.sin()) as i16 + (random >> 22) as i16
        })
        .collect();
    drop(lines);
    let done = std::thread::spawn(|| std::io::stdin().lock().lines().next());
    let mut position = 0;
    let (begun, mut pushed_ms) = (Instant::now(), 0);
    while !done.is_finished() {
        // Always a good quarter of a second ahead.
        if pushed_ms > begun.elapsed().as_millis() + 300 {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        pushed_ms += 100;
        let piece = &pcm[position..position + 1600];
        position = (position + 1600) % (pcm.len() - 1600);
        for source in &sources {
            source.push(piece).unwrap();
        }
    }
}

fn receive(streams: usize, seconds: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["send", &streams.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut offer = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut offer).unwrap();
    let offer = unfolded(&offer);
    let mids: Vec<&str> = offer.lines().filter_map(|line| line.strip_prefix("a=mid:")).collect();
    let engine = Engine::new(1).unwrap();
    let peer = engine.add_peer().unwrap();
    let answer = peer.accept_offer(&offer).unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", folded(&answer)).unwrap();
    let format = AudioFormat { sample_rate: 48_000, channels: 1, frame_ms: 10 };
    let sinks: Vec<_> = mids.iter().map(|mid| peer.receive_audio(mid, format, 0).unwrap()).collect();
    let by_id: std::collections::HashMap<u64, usize> =
        sinks.iter().enumerate().map(|(n, sink)| (sink.id(), n)).collect();
    assert!(peer.add_receive(MediaKind::Audio, 0).unwrap().is_empty());

    let (mut frames, mut concealed) = (0u64, 0u64);
    let mut measured_from: Option<(Instant, Duration)> = None;
    let begun = Instant::now();
    loop {
        let mut poll = libc::pollfd { fd: engine.events().fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd that lives.
        unsafe { libc::poll(&mut poll, 1, 1000) };
        // A program that wakes once per frame time reads all that is there, as an event loop would.
        std::thread::sleep(Duration::from_millis(5));
        for event in engine.events().take() {
            if let Event::Audio(id) = event {
                let read = sinks[by_id[&id]].read();
                concealed += read.iter().filter(|frame| frame.concealed).count() as u64;
                frames += read.len() as u64;
            }
        }
        match measured_from {
            // Jitter buffers settle.
            None if begun.elapsed() > Duration::from_secs(2) => {
                measured_from = Some((Instant::now(), cpu_time()));
                (frames, concealed) = (0, 0);
            }
            Some((at, cpu)) if at.elapsed() >= Duration::from_secs(seconds) => {
                let elapsed = at.elapsed().as_secs_f64();
                let core = (cpu_time() - cpu).as_secs_f64() / elapsed;
                let expected = streams as f64 * elapsed * 100.0;
                println!(
                    "{{\"name\": \"pcm_receive\", \"streams\": {streams}, \"core_percent\": {:.1}, \
                     \"streams_per_core\": {:.0}, \"frames_delivered\": {:.4}, \"frames_concealed\": {:.4}}}",
                    core * 100.0,
                    streams as f64 / core,
                    frames as f64 / expected,
                    concealed as f64 / expected,
                );
                break;
            }
            _ => {}
        }
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: filled by the call.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}
