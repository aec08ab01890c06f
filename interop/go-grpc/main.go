// The services of interop/call as somebody else would serve them, with grpc-go and its reflection.
//
// Its first line is its address. FOURMODES_CALL_DESCRIPTORS names the descriptors. With an argument it
// has no reflection.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

func main() {
	if err := serve(); err != nil {
		log.Fatal(err)
	}
}

func serve() error {
	bytes, err := os.ReadFile(os.Getenv("FOURMODES_CALL_DESCRIPTORS"))
	if err != nil {
		return err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(bytes, set); err != nil {
		return err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		// Where generated code would put them, and where reflection looks.
		if err = protoregistry.GlobalFiles.RegisterFile(file); err != nil {
			return false
		}
		extensions := file.Extensions()
		for i := 0; i < extensions.Len(); i++ {
			extension := dynamicpb.NewExtensionType(extensions.Get(i))
			if err = protoregistry.GlobalTypes.RegisterExtension(extension); err != nil {
				return false
			}
		}
		services := file.Services()
		for i := 0; i < services.Len(); i++ {
			server.RegisterService(described(services.Get(i)), nil)
		}
		return true
	})
	if err != nil {
		return err
	}
	if len(os.Args) == 1 {
		reflection.Register(server)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}

func described(service protoreflect.ServiceDescriptor) *grpc.ServiceDesc {
	description := &grpc.ServiceDesc{ServiceName: string(service.FullName())}
	methods := service.Methods()
	for i := 0; i < methods.Len(); i++ {
		method := methods.Get(i)
		if !method.IsStreamingClient() && !method.IsStreamingServer() {
			description.Methods = append(description.Methods, grpc.MethodDesc{
				MethodName: string(method.Name()),
				Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
					request := dynamicpb.NewMessage(method.Input())
					return request, decode(request)
				},
			})
			continue
		}
		description.Streams = append(description.Streams, grpc.StreamDesc{
			StreamName:    string(method.Name()),
			ClientStreams: method.IsStreamingClient(),
			ServerStreams: method.IsStreamingServer(),
			Handler:       func(_ any, stream grpc.ServerStream) error { return answer(method, stream) },
		})
	}
	return description
}

// Sends back what comes: a stream of responses to one request has two of them, and the one
// response to a stream is the last request.
func answer(method protoreflect.MethodDescriptor, stream grpc.ServerStream) error {
	var last *dynamicpb.Message
	for {
		request := dynamicpb.NewMessage(method.Input())
		err := stream.RecvMsg(request)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		last = request
		if method.IsStreamingServer() {
			if err := stream.SendMsg(request); err != nil {
				return err
			}
		}
		if !method.IsStreamingClient() {
			break
		}
	}
	if method.IsStreamingClient() != method.IsStreamingServer() && last != nil {
		return stream.SendMsg(last)
	}
	return nil
}
