// MeasureService by grpc-java. The first line on stdout is the address.

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import fourmodes.v1.Measure.MeasureBidiStreamingRequest;
import fourmodes.v1.Measure.MeasureBidiStreamingResponse;
import fourmodes.v1.Measure.MeasureClientStreamingRequest;
import fourmodes.v1.Measure.MeasureClientStreamingResponse;
import fourmodes.v1.Measure.MeasureServerStreamingRequest;
import fourmodes.v1.Measure.MeasureServerStreamingResponse;
import fourmodes.v1.Measure.MeasureUnaryRequest;
import fourmodes.v1.Measure.MeasureUnaryResponse;
import fourmodes.v1.MeasureServiceGrpc.MeasureServiceImplBase;
import io.grpc.Server;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.net.InetSocketAddress;
import java.util.logging.LogManager;

public final class Main extends MeasureServiceImplBase {
    public static void main(String[] arguments) throws Exception {
        // Clients cut their connections at the end of a measurement, and each cut would be logged with its stack.
        LogManager.getLogManager().reset();
        // No handler blocks, so none needs a thread of its own.
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0))
                .directExecutor()
                .addService(new Main())
                .build()
                .start();
        System.out.println("listening on http://127.0.0.1:" + server.getPort());
        server.awaitTermination();
    }

    @Override
    public void measureUnary(MeasureUnaryRequest request, StreamObserver<MeasureUnaryResponse> responses) {
        ByteString payload = payload(request.getResponseBytes());
        responses.onNext(MeasureUnaryResponse.newBuilder().setPayload(payload).build());
        responses.onCompleted();
    }

    @Override
    public void measureServerStreaming(
            MeasureServerStreamingRequest request, StreamObserver<MeasureServerStreamingResponse> observer) {
        var responses = (ServerCallStreamObserver<MeasureServerStreamingResponse>) observer;
        ByteString payload = payload(request.getResponseBytes());
        responses.setOnReadyHandler(new Runnable() {
            private long left = request.getCount();

            @Override
            public void run() {
                while (left > 0 && responses.isReady()) {
                    left -= 1;
                    responses.onNext(MeasureServerStreamingResponse.newBuilder().setPayload(payload).build());
                }
                if (left == 0) {
                    left = -1;
                    responses.onCompleted();
                }
            }
        });
    }

    @Override
    public StreamObserver<MeasureClientStreamingRequest> measureClientStreaming(
            StreamObserver<MeasureClientStreamingResponse> responses) {
        return new Requests<>() {
            private final MeasureClientStreamingResponse.Builder response =
                    MeasureClientStreamingResponse.newBuilder();

            @Override
            public void onNext(MeasureClientStreamingRequest request) {
                response.setMessages(response.getMessages() + 1);
                response.setBytes(response.getBytes() + request.getPayload().size());
                response.setValues(response.getValues() + request.getValuesCount());
            }

            @Override
            public void onCompleted() {
                responses.onNext(response.build());
                responses.onCompleted();
            }
        };
    }

    @Override
    public StreamObserver<MeasureBidiStreamingRequest> measureBidiStreaming(
            StreamObserver<MeasureBidiStreamingResponse> observer) {
        var responses = (ServerCallStreamObserver<MeasureBidiStreamingResponse>) observer;
        // A client that takes no responses is asked for no more requests.
        responses.disableAutoRequest();
        var requests = new Requests<MeasureBidiStreamingRequest>() {
            private boolean asked;

            private void ask() {
                if (!asked && responses.isReady()) {
                    asked = true;
                    responses.request(1);
                }
            }

            @Override
            public void onNext(MeasureBidiStreamingRequest request) {
                asked = false;
                ByteString payload = payload(request.getResponseBytes());
                responses.onNext(MeasureBidiStreamingResponse.newBuilder().setPayload(payload).build());
                ask();
            }

            @Override
            public void onCompleted() {
                responses.onCompleted();
            }
        };
        responses.setOnReadyHandler(requests::ask);
        return requests;
    }

    private abstract static class Requests<T> implements StreamObserver<T> {
        @Override
        public void onError(Throwable cancelled) {}
    }

    private static ByteString payload(int bytes) {
        return UnsafeByteOperations.unsafeWrap(new byte[bytes]);
    }
}
