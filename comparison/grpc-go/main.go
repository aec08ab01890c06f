// MeasureService by grpc-go, with its defaults. The first line on stdout is the address.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"

	pb "comparison-grpc/measure"

	"google.golang.org/grpc"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%v\n", listener.Addr())
	server := grpc.NewServer()
	pb.RegisterMeasureServiceServer(server, measure{})
	log.Fatal(server.Serve(listener))
}

type measure struct {
	pb.UnimplementedMeasureServiceServer
}

func payload(size uint32) []byte { return bytes.Repeat([]byte{0}, int(size)) }

func (measure) MeasureUnary(_ context.Context, request *pb.MeasureUnaryRequest) (*pb.MeasureUnaryResponse, error) {
	return &pb.MeasureUnaryResponse{Payload: payload(request.ResponseBytes)}, nil
}

func (measure) MeasureServerStreaming(request *pb.MeasureServerStreamingRequest, stream grpc.ServerStreamingServer[pb.MeasureServerStreamingResponse]) error {
	response := &pb.MeasureServerStreamingResponse{Payload: payload(request.ResponseBytes)}
	for range request.Count {
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}

func (measure) MeasureClientStreaming(stream grpc.ClientStreamingServer[pb.MeasureClientStreamingRequest, pb.MeasureClientStreamingResponse]) error {
	response := &pb.MeasureClientStreamingResponse{}
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(response)
		}
		if err != nil {
			return err
		}
		response.Messages++
		response.Bytes += uint64(len(request.Payload))
		response.Values += uint64(len(request.Values))
	}
}

func (measure) MeasureBidiStreaming(stream grpc.BidiStreamingServer[pb.MeasureBidiStreamingRequest, pb.MeasureBidiStreamingResponse]) error {
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.MeasureBidiStreamingResponse{Payload: payload(request.ResponseBytes)}); err != nil {
			return err
		}
	}
}
