//! Frames that set something: settings, windows, PING, RST_STREAM, GOAWAY.

use std::time::Duration;

use grpc_wire::http2_error;
use timeline::Side;

use super::{
    Http2,
    half::{ACK, Frame, number},
    left,
};
use crate::{
    call::Out,
    seen::{named, other},
};

/// How many PINGs may wait for their answers.
const PINGS: usize = 16;
impl Http2 {
    pub(super) fn reset(&mut self, from: Side, frame: Frame, code: u32, out: &mut Out) {
        let call = self.streams.get(&frame.stream).map_or(0, |stream| stream.call.number);
        out.frame(call, from, || format!("RST_STREAM  stream {}  {}", frame.stream, http2_error(code)));
        if let Some(mut stream) = self.streams.remove(&frame.stream) {
            stream.call.reset(from, code, out);
        }
    }

    pub(super) fn window_update(
        &mut self,
        from: Side,
        frame: Frame,
        payload: &[u8],
        at: Duration,
        out: &mut Out,
    ) {
        let more = i64::from(number(payload, 0) & (u32::MAX >> 1));
        let receiver = other(from);
        let (call, window) = match self.streams.get_mut(&frame.stream) {
            _ if frame.stream == 0 => {
                let half = self.half(receiver);
                half.window += more;
                (0, half.window)
            }
            Some(stream) => {
                stream.windows[receiver as usize] += more;
                stream.tell_window(receiver, at, out);
                (stream.call.number, stream.windows[receiver as usize])
            }
            // Its call has ended.
            None => return,
        };
        let now = left(window);
        out.frame(call, from, || {
            let of = match frame.stream {
                0 => "connection".to_owned(),
                stream => format!("stream {stream}"),
            };
            format!("WINDOW_UPDATE  {of}  {} more; {} may send {now}", left(more), named(receiver))
        });
    }

    pub(super) fn settings(&mut self, from: Side, frame: Frame, payload: &[u8], out: &mut Out) {
        const NAMES: [&str; 9] = [
            "0",
            "HEADER_TABLE_SIZE",
            "ENABLE_PUSH",
            "MAX_CONCURRENT_STREAMS",
            "INITIAL_WINDOW_SIZE",
            "MAX_FRAME_SIZE",
            "MAX_HEADER_LIST_SIZE",
            "7",
            "ENABLE_CONNECT_PROTOCOL",
        ];
        const INITIAL_WINDOW_SIZE: u16 = 4;
        let mut text = String::new();
        for setting in payload.chunks_exact(6) {
            let (id, value) = (u16::from_be_bytes([setting[0], setting[1]]), number(setting, 2));
            match NAMES.get(usize::from(id)) {
                Some(name) => text.push_str(&format!("  {name}={value}")),
                None => text.push_str(&format!("  {id}={value}")),
            }
            if id == INITIAL_WINDOW_SIZE {
                let sender = other(from);
                let more = i64::from(value) - self.half(sender).initial_window;
                self.half(sender).initial_window += more;
                self.streams.values_mut().for_each(|stream| stream.windows[sender as usize] += more);
            }
        }
        let ack = if frame.has(ACK) { "  ACK" } else { "" };
        out.frame(0, from, || format!("SETTINGS{ack}{text}"));
    }

    pub(super) fn ping(&mut self, from: Side, frame: Frame, payload: &[u8], at: Duration, out: &mut Out) {
        let Some(payload) = payload.first_chunk::<8>() else { return };
        if !frame.has(ACK) {
            let pings = &mut self.half(from).pings;
            if pings.len() < PINGS {
                pings.push((*payload, at));
            }
            return out.frame(0, from, || "PING".to_owned());
        }
        let pings = &mut self.half(other(from)).pings;
        let asked = pings.iter().position(|(asked, _)| asked == payload).map(|n| pings.remove(n).1);
        out.frame(0, from, || match asked {
            Some(asked) => {
                let time = (at.saturating_sub(asked)).as_secs_f64() * 1e3;
                format!("PING  ACK  after {time:.1} ms")
            }
            None => "PING  ACK".to_owned(),
        });
    }

    pub(super) fn goaway(&mut self, from: Side, payload: &[u8], out: &mut Out) {
        self.leaves.get_or_insert(from);
        out.frame(0, from, || {
            let (last, code) = (number(payload, 0) & (u32::MAX >> 1), http2_error(number(payload, 4)));
            let debug = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
            format!("GOAWAY  last stream {last}  {code}  {debug}").trim_end().to_owned()
        });
    }
}
