// A stand-in for NVIDIA's libnvidia-ml.so.1, so that tests load a library and call it as on a
// machine with GPUs. It has two GPUs of 16 GiB. The file that STANDIN_NVML names, read at each
// call, says what is the matter with them, a word each:
//   lost     GPU 1 is lost              gone     GPU 1 is not counted any more
//   ecc      GPU 0 has 3 uncorrected    mig      GPU 0 is split in two
//   xid79    GPU 1 reports XID 79       xid31    GPU 0 reports XID 31 (each once)
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10, LOST = 15 };

typedef struct { int index, mig; } device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned int gpu, memory; } utilization;
typedef struct {
	device *device;
	unsigned long long type, data;
	unsigned int gpu_instance, compute_instance;
} event;

static device gpus[2] = {{0, -1}, {1, -1}};
static device instances[2] = {{0, 0}, {0, 1}};
static int watched[2], told79, told31, set;

static int is(const char *word) {
	char text[256] = {0};
	const char *path = getenv("STANDIN_NVML");
	FILE *f = path ? fopen(path, "r") : NULL;
	if (!f) return 0;
	size_t n = fread(text, 1, sizeof text - 1, f);
	text[n] = 0;
	fclose(f);
	return strstr(text, word) != NULL;
}

static int lost(device *d) { return d->index == 1 && is("lost"); }

int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "stand-in error"; }

int nvmlDeviceGetCount_v2(unsigned int *n) { *n = is("gone") ? 1 : 2; return OK; }
int nvmlDeviceGetCount(unsigned int *n) { return nvmlDeviceGetCount_v2(n); }

int nvmlDeviceGetHandleByIndex_v2(unsigned int i, device **d) {
	if (i > 1) return INVALID;
	*d = &gpus[i];
	return OK;
}
int nvmlDeviceGetHandleByIndex(unsigned int i, device **d) { return nvmlDeviceGetHandleByIndex_v2(i, d); }

int nvmlDeviceGetName(device *d, char *name, unsigned int n) {
	snprintf(name, n, d->mig < 0 ? "Stand-in" : "Stand-in MIG");
	return OK;
}
int nvmlDeviceGetUUID(device *d, char *name, unsigned int n) {
	if (d->mig < 0) snprintf(name, n, "GPU-%d", d->index);
	else snprintf(name, n, "MIG-%d-%d", d->index, d->mig);
	return OK;
}
int nvmlDeviceGetMemoryInfo(device *d, memory *m) {
	if (lost(d)) return LOST;
	m->total = d->mig < 0 ? 16ULL << 30 : 8ULL << 30;
	m->used = (d->mig < 0 ? 4ULL : 1ULL) << 30;
	m->free = m->total - m->used;
	return OK;
}
int nvmlDeviceGetUtilizationRates(device *d, utilization *u) {
	if (d->mig >= 0 || (d->index == 0 && is("mig"))) return NOT_SUPPORTED;
	u->gpu = d->index ? 80 : 20;
	u->memory = 5;
	return OK;
}
int nvmlDeviceGetTemperature(device *d, int sensor, unsigned int *t) { *t = 50 + d->index; return OK; }
int nvmlDeviceGetPowerUsage(device *d, unsigned int *p) { *p = 120250 + 1000 * d->index; return OK; }
int nvmlDeviceGetTotalEccErrors(device *d, int kind, int since, unsigned long long *n) {
	// Corrected errors, and those of all time, are others.
	*n = kind != 1 || since != 0 ? 99 : d->index == 0 && is("ecc") ? 3 : 0;
	return OK;
}

int nvmlDeviceGetMigMode(device *d, unsigned int *now, unsigned int *later) {
	*now = *later = d->index == 0 && is("mig");
	return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(device *d, unsigned int *n) { *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device *d, unsigned int i, device **instance) {
	if (i > 1) return NOT_FOUND;
	*instance = &instances[i];
	return OK;
}

int nvmlEventSetCreate(void **s) { *s = &set; return OK; }
int nvmlEventSetFree(void *s) { return s == &set ? OK : INVALID; }
int nvmlDeviceRegisterEvents(device *d, unsigned long long types, void *s) {
	if (types != 8 || s != &set) return INVALID;
	watched[d->index] = 1;
	return OK;
}
int nvmlEventSetWait_v2(void *s, event *e, unsigned int timeout) {
	if (timeout != 0) abort(); // nobody shall wait
	memset(e, 0, sizeof *e);
	e->type = 8;
	if (watched[1] && !told79 && is("xid79")) {
		told79 = 1;
		e->device = &gpus[1];
		e->data = 79;
		return OK;
	}
	if (watched[0] && !told31 && is("xid31")) {
		told31 = 1;
		e->device = &gpus[0];
		e->data = 31;
		return OK;
	}
	return TIMEOUT;
}
int nvmlEventSetWait(void *s, event *e, unsigned int timeout) { return nvmlEventSetWait_v2(s, e, timeout); }
