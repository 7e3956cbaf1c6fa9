// Package inference holds the messages and the service of the Open Inference Protocol V2 over
// gRPC, generated from open_inference.proto by "make proto".
package inference
