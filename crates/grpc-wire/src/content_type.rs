/// Whether a `content-type` is that of gRPC over HTTP/2, whatever its messages and its
/// parameters are.
pub fn is_grpc(content_type: &str) -> bool {
    const GRPC: &str = "application/grpc";
    let (name, rest) = content_type.split_at_checked(GRPC.len()).unwrap_or_default();
    name.eq_ignore_ascii_case(GRPC) && (rest.is_empty() || rest.starts_with(['+', ';', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for grpc in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc; charset=utf-8",
            "Application/gRPC",
        ] {
            assert!(is_grpc(grpc), "{grpc}");
        }
        for other in ["", "text/html", "application/json", "application/grpc-web", "application/grpcx"] {
            assert!(!is_grpc(other), "{other}");
        }
    }
}
