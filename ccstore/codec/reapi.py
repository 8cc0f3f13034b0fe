"""Messages of the Remote Execution API v2 and of what it rests on, as far as ccstore speaks it.

Sources: build/bazel/remote/execution/v2 (remote-apis), google/bytestream, google/longrunning, google/rpc. Names and
numbers are the protocol's; what a server adds beyond them is kept by protobuf and ignored here. A field is written
`number name type`, with `*` for a list; a type with a dot or a capital letter is another message.
"""

from __future__ import annotations

from functools import cache
from typing import Any

V2 = "build.bazel.remote.execution.v2"
_MESSAGES = {
    "google.rpc": {
        "Status": "1 code int32, 2 message string, 3 details *google.protobuf.Any",
        "Violation": "1 type string, 2 subject string, 3 description string",
        "PreconditionFailure": "1 violations *Violation",
    },
    "google.longrunning": {
        "Operation": "1 name string, 2 metadata google.protobuf.Any, 3 done bool, 4 error google.rpc.Status, "
        "5 response google.protobuf.Any",
        "CancelOperationRequest": "1 name string",
    },
    "google.bytestream": {
        "ReadRequest": "1 resource_name string, 2 read_offset int64, 3 read_limit int64",
        "ReadResponse": "10 data bytes",
        "WriteRequest": "1 resource_name string, 2 write_offset int64, 3 finish_write bool, 10 data bytes",
        "WriteResponse": "1 committed_size int64",
    },
    V2: {
        "Digest": "1 hash string, 2 size_bytes int64",
        "Property": "1 name string, 2 value string",
        "Platform": "1 properties *Property",
        "Action": "1 command_digest Digest, 2 input_root_digest Digest, 6 timeout google.protobuf.Duration, "
        "7 do_not_cache bool, 9 salt bytes, 10 platform Platform",
        "EnvironmentVariable": "1 name string, 2 value string",
        "Command": "1 arguments *string, 2 environment_variables *EnvironmentVariable, 5 platform Platform, "
        "6 working_directory string, 7 output_paths *string",
        "NodeProperties": "3 unix_mode google.protobuf.UInt32Value",
        "FileNode": "1 name string, 2 digest Digest, 4 is_executable bool, 6 node_properties NodeProperties",
        "DirectoryNode": "1 name string, 2 digest Digest",
        "SymlinkNode": "1 name string, 2 target string",
        "Directory": "1 files *FileNode, 2 directories *DirectoryNode, 3 symlinks *SymlinkNode, "
        "5 node_properties NodeProperties",
        "Tree": "1 root Directory, 2 children *Directory",
        "OutputFile": "1 path string, 2 digest Digest, 4 is_executable bool, 5 contents bytes",
        "OutputDirectory": "1 path string, 3 tree_digest Digest",
        "OutputSymlink": "1 path string, 2 target string",
        "ExecutedActionMetadata": "1 worker string",
        "ActionResult": "2 output_files *OutputFile, 3 output_directories *OutputDirectory, 4 exit_code int32, "
        "5 stdout_raw bytes, 6 stdout_digest Digest, 7 stderr_raw bytes, 8 stderr_digest Digest, "
        "10 output_file_symlinks *OutputSymlink, 11 output_directory_symlinks *OutputSymlink, "
        "12 output_symlinks *OutputSymlink",
        "GetActionResultRequest": "1 instance_name string, 2 action_digest Digest, 5 inline_output_files *string",
        "UpdateActionResultRequest": "1 instance_name string, 2 action_digest Digest, 3 action_result ActionResult",
        "ExecuteRequest": "1 instance_name string, 3 skip_cache_lookup bool, 6 action_digest Digest",
        "ExecuteResponse": "1 result ActionResult, 2 cached_result bool, 3 status google.rpc.Status, "
        "5 message string",
        "ExecuteOperationMetadata": "1 stage int32, 2 action_digest Digest, 3 stdout_stream_name string, "
        "4 stderr_stream_name string, 5 partial_execution_metadata ExecutedActionMetadata",
        "WaitExecutionRequest": "1 name string",
        "FindMissingBlobsRequest": "1 instance_name string, 2 blob_digests *Digest",
        "FindMissingBlobsResponse": "2 missing_blob_digests *Digest",
        "Upload": "1 digest Digest, 2 data bytes, 3 compressor int32",
        "Uploaded": "1 digest Digest, 2 status google.rpc.Status",
        "BatchUpdateBlobsRequest": "1 instance_name string, 2 requests *Upload",
        "BatchUpdateBlobsResponse": "1 responses *Uploaded",
        "BatchReadBlobsRequest": "1 instance_name string, 2 digests *Digest, 3 acceptable_compressors *int32",
        "Downloaded": "1 digest Digest, 2 data bytes, 3 status google.rpc.Status, 4 compressor int32",
        "BatchReadBlobsResponse": "1 responses *Downloaded",
        "GetCapabilitiesRequest": "1 instance_name string",
        "CacheCapabilities": "1 digest_functions *int32, 4 max_batch_total_size_bytes int64, "
        "6 supported_compressors *int32, 7 supported_batch_update_compressors *int32",
        "ExecutionCapabilities": "1 digest_function int32, 2 exec_enabled bool",
        "ServerCapabilities": "1 cache_capabilities CacheCapabilities, "
        "2 execution_capabilities ExecutionCapabilities",
    },
}
# of each call: service, method, request, answer; `stream` where one side sends many
CALLS = {
    "capabilities": (f"{V2}.Capabilities/GetCapabilities", "GetCapabilitiesRequest", "ServerCapabilities"),
    "find_missing": (
        f"{V2}.ContentAddressableStorage/FindMissingBlobs",
        "FindMissingBlobsRequest",
        "FindMissingBlobsResponse",
    ),
    "batch_update": (
        f"{V2}.ContentAddressableStorage/BatchUpdateBlobs",
        "BatchUpdateBlobsRequest",
        "BatchUpdateBlobsResponse",
    ),
    "batch_read": (
        f"{V2}.ContentAddressableStorage/BatchReadBlobs",
        "BatchReadBlobsRequest",
        "BatchReadBlobsResponse",
    ),
    "get_result": (f"{V2}.ActionCache/GetActionResult", "GetActionResultRequest", "ActionResult"),
    "update_result": (f"{V2}.ActionCache/UpdateActionResult", "UpdateActionResultRequest", "ActionResult"),
    "execute": (f"{V2}.Execution/Execute", "ExecuteRequest", "stream google.longrunning.Operation"),
    "wait": (f"{V2}.Execution/WaitExecution", "WaitExecutionRequest", "stream google.longrunning.Operation"),
    "cancel": (
        "google.longrunning.Operations/CancelOperation",
        "google.longrunning.CancelOperationRequest",
        "google.protobuf.Empty",
    ),
    "read": (
        "google.bytestream.ByteStream/Read",
        "google.bytestream.ReadRequest",
        "stream google.bytestream.ReadResponse",
    ),
    "write": (
        "google.bytestream.ByteStream/Write",
        "stream google.bytestream.WriteRequest",
        "google.bytestream.WriteResponse",
    ),
}
SHA256, IDENTITY, ZSTD = 1, 0, 1  # of DigestFunction and Compressor


@cache
def _pool() -> Any:
    from google.protobuf import any_pb2, descriptor_pool, duration_pb2, empty_pb2, wrappers_pb2
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    pool = descriptor_pool.DescriptorPool()
    known = [each.DESCRIPTOR for each in (any_pb2, duration_pb2, empty_pb2, wrappers_pb2)]
    names = []
    for file in known:
        pool.AddSerializedFile(file.serialized_pb)
        names.append(file.name)
    for package, messages in _MESSAGES.items():
        described = FileDescriptorProto(name=f"ccstore/{package}", package=package, syntax="proto3")
        described.dependency.extend(names)
        names.append(described.name)
        for name, fields in messages.items():
            _describe(described.message_type.add(name=name), package, fields)
        pool.Add(described)
    return pool


def _describe(message: Any, package: str, fields: str) -> None:
    for field in fields.split(", "):
        number, name, kind = field.split()
        made = message.field.add(name=name, number=int(number), label=3 if kind[0] == "*" else 1)
        kind = kind.removeprefix("*")
        if kind.islower() and "." not in kind:
            made.type = getattr(made, f"TYPE_{kind.upper()}")
        else:
            made.type = made.TYPE_MESSAGE
            made.type_name = f".{kind}" if "." in kind else f".{package}.{kind}"


@cache
def message(name: str) -> Any:
    """The class of a message; a name without a dot is one of the API's own."""
    from google.protobuf import message_factory

    full = name if "." in name else f"{V2}.{name}"
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full))


def stub(channel: Any, call: str) -> Any:
    """The function that makes one of CALLS over a channel of grpc."""
    method, request, answer = CALLS[call]
    many_in, many_out = request.startswith("stream "), answer.startswith("stream ")
    sent, got = message(request.removeprefix("stream ")), message(answer.removeprefix("stream "))
    kind = f"{'stream' if many_in else 'unary'}_{'stream' if many_out else 'unary'}"
    return getattr(channel, kind)(
        f"/{method}", request_serializer=sent.SerializeToString, response_deserializer=got.FromString
    )
