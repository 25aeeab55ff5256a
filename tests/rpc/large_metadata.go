// Sends calls with one metadata field of growing size on one connection, and prints what became of each.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (bytesCodec) Name() string                       { return "proto" }

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request := []byte("x")
	held, err := connection.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Test/Chat")
	if err != nil {
		panic(err)
	}
	for _, size := range []int{0, 60_000, 70_000, 2_000_000} {
		var answer []byte
		large := metadata.AppendToOutgoingContext(ctx, "large", strings.Repeat("~", size))
		err := connection.Invoke(large, "/test.Test/Echo", &request, &answer)
		fmt.Printf("%d %s %s\n", size, status.Code(err), answer)
	}
	var answer []byte
	if err := held.SendMsg(&request); err != nil {
		panic(err)
	}
	fmt.Println("the stream opened before them:", held.RecvMsg(&answer), string(answer))
}
