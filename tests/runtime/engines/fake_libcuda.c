/* A fake NVIDIA driver, for tests of what is asked of a real one: it computes nothing and is no measure of anything.

   Its GPU's memory is this machine's, at addresses no program can read by itself; its streams do at once what they are
   given, or take it down while they are captured. It refuses whatever is asked outside a context, and what it was told
   to refuse by fake_fail. Built by the tests: cc -shared -fPIC -Wl,-soname,libcuda.so.1 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE 0x4000000000000000ull
#define GIB (1ull << 30)
typedef int R;
typedef struct op { void (*work)(void *, uint64_t, uint64_t, size_t); void *with; uint64_t to, from; size_t size; struct op *next; } op;
typedef struct { op *first, *last; } graph;
typedef struct { graph *capture; } stream;
typedef struct { int recorded; } event;

static int started, refuse_code, hangs, live, version = 13000, count = 1;
static char refused[64];
static __thread int depth;

void fake_fail(const char *function, int code) { strncpy(refused, function, 63); refuse_code = code; }
void fake_hang(int yes) { hangs = yes; }
void fake_version(int newest) { version = newest; }
void fake_count(int gpus) { count = gpus; }
int fake_live(void) { return live; }
void *fake_memory(uint64_t address) { return (void *)(address & ~DEVICE); }

#define ASKED(name) do { if (!strcmp(refused, #name)) return refuse_code; } while (0)
#define INSIDE(name) do { ASKED(name); if (!depth) return 201; } while (0)

static R give(stream *s, op o) {
  if (!s->capture) { o.work(o.with, o.to, o.from, o.size); return 0; }
  op *kept = malloc(sizeof o);
  *kept = o; kept->next = 0;
  if (s->capture->last) s->capture->last->next = kept; else s->capture->first = kept;
  s->capture->last = kept;
  return 0;
}
static void copy(void *with, uint64_t to, uint64_t from, size_t size) { memcpy(fake_memory(to), fake_memory(from), size); }

R cuInit(unsigned flags) { ASKED(cuInit); started = 1; return 0; }
R cuDriverGetVersion(int *v) { *v = version; return 0; }
R cuDeviceGetCount(int *n) { *n = count; return 0; }
R cuDeviceGet(int *d, int n) { if (!started) return 3; *d = n; return n < count ? 0 : 101; }
R cuDeviceGetName(char *name, int size, int d) { strncpy(name, "Fake GPU", size); return 0; }
R cuDeviceGetPCIBusId(char *id, int size, int d) { strncpy(id, "0000:00:00.0", size); return 0; }
R cuDeviceTotalMem_v2(size_t *bytes, int d) { *bytes = 8 * GIB; return 0; }
R cuDeviceGetAttribute(int *v, int what, int d) { *v = what == 75 ? 9 : 0; return 0; }
R cuDevicePrimaryCtxRetain(void **c, int d) { ASKED(cuDevicePrimaryCtxRetain); *c = &started; return 0; }
R cuDevicePrimaryCtxRelease_v2(int d) { return 0; }
R cuCtxPushCurrent_v2(void *c) { ASKED(cuCtxPushCurrent); depth++; return 0; }
R cuCtxPopCurrent_v2(void **c) { if (!depth) return 201; depth--; *c = &started; return 0; }
R cuCtxGetApiVersion(void *c, unsigned *v) { *v = 3020; return 0; }
R cuMemGetInfo_v2(size_t *have, size_t *all) { INSIDE(cuMemGetInfo); *have = 6 * GIB; *all = 8 * GIB; return 0; }
R cuMemAlloc_v2(uint64_t *p, size_t n) { INSIDE(cuMemAlloc); live++; *p = (uint64_t)malloc(n) | DEVICE; return 0; }
R cuMemFree_v2(uint64_t p) { INSIDE(cuMemFree); live--; free(fake_memory(p)); return 0; }
R cuMemHostAlloc(void **p, size_t n, unsigned f) { INSIDE(cuMemHostAlloc); live++; *p = malloc(n); return 0; }
R cuMemFreeHost(void *p) { INSIDE(cuMemFreeHost); live--; free(p); return 0; }
R cuMemcpyHtoDAsync_v2(uint64_t to, void *from, size_t n, stream *s) {
  INSIDE(cuMemcpyHtoDAsync);
  return give(s, (op){copy, 0, to, (uint64_t)from, n, 0});
}
R cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, stream *s) {
  INSIDE(cuMemcpyDtoHAsync);
  return give(s, (op){copy, 0, (uint64_t)to, from, n, 0});
}
R cuStreamCreate(stream **s, unsigned f) { INSIDE(cuStreamCreate); live++; *s = calloc(1, sizeof **s); return 0; }
R cuStreamDestroy_v2(stream *s) { INSIDE(cuStreamDestroy); live--; free(s); return 0; }
R cuStreamBeginCapture_v2(stream *s, int mode) {
  INSIDE(cuStreamBeginCapture);
  if (mode != 1 || s->capture) return 1;
  s->capture = calloc(1, sizeof(graph));
  return 0;
}
R cuStreamEndCapture(stream *s, graph **g) { INSIDE(cuStreamEndCapture); *g = s->capture; s->capture = 0; return 0; }
R cuGraphInstantiateWithFlags(graph **ready, graph *g, unsigned long long f) {
  INSIDE(cuGraphInstantiate);
  live++; *ready = malloc(sizeof *g); **ready = *g;
  return 0;
}
R cuGraphDestroy(graph *g) { free(g); return 0; }
R cuGraphExecDestroy(graph *g) { INSIDE(cuGraphExecDestroy); live--; free(g); return 0; }
R cuGraphLaunch(graph *g, stream *s) {
  INSIDE(cuGraphLaunch);
  for (op *o = g->first; o; o = o->next) o->work(o->with, o->to, o->from, o->size);
  return 0;
}
R cuEventCreate(event **e, unsigned f) { INSIDE(cuEventCreate); live++; *e = calloc(1, sizeof **e); return 0; }
R cuEventDestroy_v2(event *e) { INSIDE(cuEventDestroy); live--; free(e); return 0; }
R cuEventRecord(event *e, stream *s) { INSIDE(cuEventRecord); e->recorded = 1; return 0; }
R cuEventQuery(event *e) { INSIDE(cuEventQuery); return hangs || !e->recorded ? 600 : 0; }
R cuEventElapsedTime(float *ms, event *a, event *b) { INSIDE(cuEventElapsedTime); *ms = 1.5f; return 0; }
R cuEventElapsedTime_v2(float *ms, event *a, event *b) { return cuEventElapsedTime(ms, a, b); }
R cuGetErrorName(int code, const char **name) {
  *name = code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : code == 46 ? "CUDA_ERROR_DEVICE_UNAVAILABLE" : "CUDA_ERROR_FAKE";
  return 0;
}
R cuGetErrorString(int code, const char **text) { return cuGetErrorName(code, text); }

/* What a fake engine gives a stream: a function of the test's, called when the stream comes to it. */
static void call(void *with, uint64_t to, uint64_t from, size_t size) { ((void (*)(void))with)(); }
R fake_enqueue(stream *s, void (*work)(void)) { return give(s, (op){call, (void *)work, 0, 0, 0, 0}); }

#define KNOWN(name, function) if (!strcmp(wanted, #name)) { *found = (void *)function; return 0; }
R cuGetProcAddress_v2(const char *wanted, void **found, int v, uint64_t flags, int *status) {
  if (status) *status = 0;
  KNOWN(cuGetProcAddress, cuGetProcAddress_v2) KNOWN(cuInit, cuInit) KNOWN(cuDriverGetVersion, cuDriverGetVersion)
  KNOWN(cuDeviceGet, cuDeviceGet) KNOWN(cuDeviceGetCount, cuDeviceGetCount)
  KNOWN(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain) KNOWN(cuCtxPushCurrent, cuCtxPushCurrent_v2)
  KNOWN(cuCtxPopCurrent, cuCtxPopCurrent_v2) KNOWN(cuMemGetInfo, cuMemGetInfo_v2) KNOWN(cuMemAlloc, cuMemAlloc_v2)
  KNOWN(cuMemFree, cuMemFree_v2) KNOWN(cuMemHostAlloc, cuMemHostAlloc) KNOWN(cuMemFreeHost, cuMemFreeHost)
  KNOWN(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2) KNOWN(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2)
  KNOWN(cuStreamCreate, cuStreamCreate) KNOWN(cuStreamDestroy, cuStreamDestroy_v2)
  KNOWN(cuStreamBeginCapture, cuStreamBeginCapture_v2) KNOWN(cuStreamEndCapture, cuStreamEndCapture)
  KNOWN(cuGraphInstantiate, cuGraphInstantiateWithFlags) KNOWN(cuGraphInstantiateWithFlags, cuGraphInstantiateWithFlags)
  KNOWN(cuGraphDestroy, cuGraphDestroy) KNOWN(cuGraphExecDestroy, cuGraphExecDestroy) KNOWN(cuGraphLaunch, cuGraphLaunch)
  KNOWN(cuEventCreate, cuEventCreate) KNOWN(cuEventDestroy, cuEventDestroy_v2) KNOWN(cuEventRecord, cuEventRecord)
  KNOWN(cuEventQuery, cuEventQuery) KNOWN(cuEventElapsedTime, cuEventElapsedTime)
  KNOWN(cuGetErrorName, cuGetErrorName) KNOWN(cuGetErrorString, cuGetErrorString)
  *found = 0;
  return 500;
}
