"""A bundle's variants for Triton Inference Server: https://github.com/triton-inference-server/server"""
