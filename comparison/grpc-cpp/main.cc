// MeasureService by gRPC C++, with its callback API. The first line on stdout is the address.

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <iostream>
#include <memory>

#include "fourmodes/v1/measure.grpc.pb.h"

namespace {

using grpc::CallbackServerContext;
using grpc::Status;
using namespace fourmodes::v1;

class ServerStreaming final : public grpc::ServerWriteReactor<MeasureServerStreamingResponse> {
 public:
  explicit ServerStreaming(const MeasureServerStreamingRequest& request) : left_(request.count()) {
    response_.mutable_payload()->resize(request.response_bytes());
    // Messages that wait together with the headers wait for ever.
    StartSendInitialMetadata();
  }

  void OnSendInitialMetadataDone(bool ok) override { OnWriteDone(ok); }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(Status::CANCELLED);
    Next();
  }

  void OnDone() override { delete this; }

 private:
  void Next() {
    if (left_ == 0) return Finish(Status::OK);
    left_ -= 1;
    // Messages may wait for each other, but the last one for nothing.
    auto options = grpc::WriteOptions();
    if (left_ > 0) options.set_buffer_hint();
    StartWrite(&response_, options);
  }

  std::uint64_t left_;
  MeasureServerStreamingResponse response_;
};

class ClientStreaming final : public grpc::ServerReadReactor<MeasureClientStreamingRequest> {
 public:
  explicit ClientStreaming(MeasureClientStreamingResponse* response) : response_(response) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(Status::OK);
    response_->set_messages(response_->messages() + 1);
    response_->set_bytes(response_->bytes() + request_.payload().size());
    response_->set_values(response_->values() + request_.values_size());
    StartRead(&request_);
  }

  void OnDone() override { delete this; }

 private:
  MeasureClientStreamingRequest request_;
  MeasureClientStreamingResponse* response_;
};

class BidiStreaming final
    : public grpc::ServerBidiReactor<MeasureBidiStreamingRequest, MeasureBidiStreamingResponse> {
 public:
  BidiStreaming() { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(Status::OK);
    response_.mutable_payload()->assign(request_.response_bytes(), 0);
    StartWrite(&response_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(Status::CANCELLED);
    StartRead(&request_);
  }

  void OnDone() override { delete this; }

 private:
  MeasureBidiStreamingRequest request_;
  MeasureBidiStreamingResponse response_;
};

class Measure final : public MeasureService::CallbackService {
  grpc::ServerUnaryReactor* MeasureUnary(CallbackServerContext* context, const MeasureUnaryRequest* request,
                                         MeasureUnaryResponse* response) override {
    response->mutable_payload()->resize(request->response_bytes());
    auto* reactor = context->DefaultReactor();
    reactor->Finish(Status::OK);
    return reactor;
  }

  grpc::ServerWriteReactor<MeasureServerStreamingResponse>* MeasureServerStreaming(
      CallbackServerContext*, const MeasureServerStreamingRequest* request) override {
    return new ServerStreaming(*request);
  }

  grpc::ServerReadReactor<MeasureClientStreamingRequest>* MeasureClientStreaming(
      CallbackServerContext*, MeasureClientStreamingResponse* response) override {
    return new ClientStreaming(response);
  }

  grpc::ServerBidiReactor<MeasureBidiStreamingRequest, MeasureBidiStreamingResponse>* MeasureBidiStreaming(
      CallbackServerContext*) override {
    return new BidiStreaming();
  }
};

}  // namespace

int main() {
  Measure measure;
  int port = 0;
  auto builder = grpc::ServerBuilder();
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&measure);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (!server) {
    std::cerr << "cannot listen" << std::endl;
    return 1;
  }
  std::cout << "listening on http://127.0.0.1:" << port << std::endl;
  server->Wait();
}
