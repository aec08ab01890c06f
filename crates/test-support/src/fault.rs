//! What can be wrong with a path.

use std::time::Duration;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "most names say all")]
pub enum Fault {
    None,

    // When things pass.
    BufferRequest,
    BufferResponse,
    /// The head of a response waits for its first message.
    HoldHead,
    /// The end of a request comes so late.
    DelayEnd(Duration),
    /// The end of a response that has begun waits for the end of the request.
    EndAfterRequest,
    /// Takes all that comes, whether or not somebody reads it.
    HoardRequest,
    HoardResponse,
    Delay(Duration),

    // What becomes of the end.
    DropTrailers,
    /// All but what gRPC itself has in them.
    DropTrailingMetadata,
    DropDetails,
    /// An answer that is only a status loses the rest of its head.
    BareStatus,
    /// What failed fails with UNKNOWN.
    RewriteStatus,
    RewriteMessage,
    ResetIsEnd,
    ResetIsInternal,
    /// One head in so many that ends its stream comes as one that does not, and then the end.
    StatusInHead(u32),
    /// So many DATA frames with nothing in them come with each answer.
    EmptyData(u32),
    /// This status after so many bytes of a response.
    StatusAfter(usize, &'static str),
    /// As servers of Java do: what asks for OK by `response_status` is reset.
    ResetsOk,

    // What becomes of metadata.
    Remove(&'static str),
    RemoveFromResponse(&'static str),
    Replace(&'static str, &'static str),
    DropUnderscores,
    DropBinary,
    LastOfRepeated,
    /// 431 for what is larger, in bytes.
    LimitHeaders(usize),

    // What is cut.
    SwallowCancels,
    /// 413 for what is larger, in bytes.
    LimitBody(usize),
    /// A reset after so many bytes of a response.
    CutAfter(usize),
    /// A reset when nothing comes for that long.
    CutIdle(Duration),
    /// A reset of what is that old.
    CutOld(Duration),
    /// A reset of what is that old, if its request has not ended.
    CutOldRequest(Duration),
    /// The end after so many bytes of a response, without trailers.
    EndAfter(usize),
    /// The end after so many bytes of a response, without trailers, and with a page of HTML
    /// before it.
    PageAfter(usize),
    /// Nothing comes after so many bytes of a response.
    NothingAfter(usize),
    /// Reads no more of a request whose answer is there, and leaves its stream open.
    KeepRequest,
    /// Refuses those that are more at once.
    RefuseStreams(usize),
    /// Has fewer of them wait.
    FewStreams(u32),
    /// Has them wait without saying so.
    CarryStreams(usize),
    SwallowPings,
    /// Ends a connection with more than two PINGs by ENHANCE_YOUR_CALM.
    Calm,
    /// Ends a connection with more than so many resets by ENHANCE_YOUR_CALM.
    CalmResets(u32),
    /// Ends a connection of that age, in order.
    GoAwayOld(Duration),
    /// The connection is gone after so many calls.
    HangUpAfter(usize),
    /// The connection ends in order after so many calls.
    GoAwayAfter(usize),

    // What is no right call, and gets through.
    AlwaysPost,
    /// The first message of a request alone, and an empty one where there is none.
    OneMessage,

    // What answers.
    /// A page of HTML with this status instead.
    Page(u16),
    /// Nothing, for something behind it is dead.
    Nothing,
    /// Every fifth connection leads nowhere.
    DeadInstance,
    /// UNIMPLEMENTED for paths that begin with this.
    Unimplemented(&'static str),
    /// No more than HTTP/1.1.
    Http1,
    /// HTTP/1.1 to the server.
    Http1Upstream,
}
