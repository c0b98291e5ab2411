package main

import (
	"context"
	"os/exec"
)

// Servers that are still to come.

func floor(context.Context, string) (*contender, error) { return nil, exec.ErrNotFound }

func uringFloor(context.Context, string) (*contender, error) { return nil, exec.ErrNotFound }

func goServer(context.Context, string, string) (*contender, error) { return nil, exec.ErrNotFound }

func h2o(context.Context, string, string, string) (*contender, error) { return nil, exec.ErrNotFound }
