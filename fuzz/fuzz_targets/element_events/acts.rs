// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything that can happen to the element, generated from the fuzzer's input.

use arbitrary::Arbitrary;

use crate::sound::Sound;

#[derive(Debug, Arbitrary)]
pub struct Case {
    pub setup: Setup,
    pub acts: Vec<Act>,
}

/// How the element starts.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Setup {
    pub model: Model,
    pub lookahead: Lookahead,
    pub decoder: Decoder,
    pub format: Format,
    pub clock: Clock,
    /// Upstream's answer to LATENCY queries: live, milliseconds.
    pub upstream: (bool, u8),
    /// Whether stream start, caps and a segment are sent first, as in a pipeline.
    pub begins: bool,
    pub state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Arbitrary)]
pub enum Model {
    Random,
    Multilingual,
    Turns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Arbitrary)]
pub enum Lookahead {
    Least,
    Small,
    Most,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Arbitrary)]
pub enum Decoder {
    Auto,
    /// With the random model, emits tokens in every chunk. The other models have no CTC decoder.
    Ctc,
}

/// The text format that downstream accepts.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Format {
    Any,
    Markup,
    Json,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Clock {
    None,
    Test,
    System,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum State {
    Playing,
    Paused,
    Ready,
    Null,
}

#[derive(Debug, Arbitrary)]
pub enum Act {
    Serve(Served),
    Do(Deed),
    /// Two threads, upstream's and the application's, run in parallel. Downstream can be blocked, like a sink that
    /// prerolls.
    Beside {
        serves: Vec<Served>,
        does: Vec<Deed>,
        is_blocked: bool,
    },
    /// To READY or NULL and up again.
    Restart {
        state: State,
        from: State,
    },
    /// Waits for one iteration of the element's clock thread.
    Wait,
}

/// Serialized data, events and queries from upstream.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Served {
    Audio {
        sound: Sound,
        count: u16,
        cut: u16,
        stamp: Time,
        is_discont: bool,
    },
    Buffer {
        sound: Sound,
        bytes: u16,
        pts: Time,
        dts: Time,
        duration: Time,
        offset: Option<u32>,
        flags: u32,
    },
    Gap(Time, Time),
    Segment(Segment),
    StreamStart(u8),
    Caps(Caps),
    Tags(u8),
    SegmentDone(Kind, i64),
    Finish,
    Other(OtherEvent),
    Query(Query),
    Eos,
    /// FLUSH_STOP without a FLUSH_START.
    FlushStop(bool),
}

/// Actions that any thread can take at any time.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Deed {
    Flush {
        reset: bool,
        segment: Option<Segment>,
    },
    FlushStart,
    Property(Property),
    Query(Query),
    /// Sent by downstream, like the events below.
    Seek {
        rate: Rate,
        flags: u8,
        kind: Kind,
        start: i64,
        stop: i64,
    },
    Qos {
        proportion: u8,
        diff: i64,
        time: Time,
    },
    Latency(Time),
    Navigation,
    Reconfigure,
    Step(u32),
    /// The application finishes the current utterance, by signal or event.
    Finish(u8),
    /// Advances the test's clock, in milliseconds.
    Pass(u16),
    Jump(u64),
    Clock(Clock),
    BaseTime(u64),
    Upstream(bool, u16),
    /// Downstream's flow return for buffers.
    Downstream(Flow),
    /// To PLAYING or PAUSED.
    Play(bool),
    /// To READY or NULL.
    Stop(bool),
    Messages,
}

/// A time: when audio is due, near that, or arbitrary.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Time {
    Due,
    Off(i16),
    Milliseconds(u16),
    Now,
    None,
    Raw(u64),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Kind {
    Time,
    Bytes,
    Default,
    Percent,
    Buffers,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Rate {
    One,
    Reverse,
    Fast(u8),
    Slow(u8),
    Raw(f64),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Segment {
    /// From 0.
    Plain,
    /// Continues in running time, but with different timestamps.
    Shifted(u16),
    Any {
        rate: Rate,
        applied_rate: Rate,
        flags: u16,
        base: Time,
        offset: Time,
        start: Time,
        stop: Time,
        time: Time,
        position: Time,
        duration: Time,
    },
    Of(Kind, [i32; 4], Rate),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Caps {
    Plain,
    /// Equivalent to `Plain`.
    Masked(u8),
    /// This and the following are rejected.
    Rate(u16),
    Channels(u8),
    Float,
    Text,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum OtherEvent {
    BufferSize,
    Toc,
    Collection,
    GroupDone,
    Protection,
    Custom,
    CustomSticky,
    CustomBoth,
    SinkMessage,
    InstantRateChange(bool),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Query {
    Latency,
    Position(Kind),
    Duration(Kind),
    Seeking(Kind),
    Segment(Kind),
    Convert(Kind, i64, Kind),
    Formats,
    Caps(Option<Caps>),
    AcceptCaps(Caps),
    Allocation(Option<Caps>),
    Scheduling,
    Drain,
    Uri,
    Context,
    Bitrate,
    Custom,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Property {
    EosPadding(u16),
    Latency(u16),
    GapThreshold(u16),
    WordHold(u16),
    EndpointSilence(u16),
    Output(bool),
    PostMessages(bool),
    PostPartials(bool),
    Overload(bool),
    Lateness(u32),
    Language(u8),
    MaxUtterance(u16),
    MaxUtteranceChars(u8),
    MinWord(u16),
    HoldUntilNext(bool),
    /// This and the following two take effect at the next start.
    Lookahead(Lookahead),
    Decoder(Decoder),
    Model(Option<Model>),
    /// Reads all properties.
    Get,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Flow {
    Ok,
    Eos,
    Flushing,
    NotLinked,
    Error,
    Custom,
}
