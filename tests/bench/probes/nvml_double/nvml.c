/* A driver's management library, played: two devices whose state a test sets through `nvml_double`.
 *
 * Only what the binding calls for us is here; a function that is missing is an old driver's.
 * Every call on a device whose `error` is set returns that error.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { DEVICES = 2, PROCESSES = 4 };

typedef unsigned long long u64;

typedef struct {
    unsigned pid;
    u64 bytes; /* ~0 where the driver knows the process but not its memory */
    unsigned gpu_instance;
    unsigned compute_instance;
} process;

typedef struct {
    u64 total, free, used;
} memory;

typedef struct {
    char uuid[96];
    memory bytes;
    unsigned process_count;
    process processes[PROCESSES];
    u64 clock_reasons;
    int mig;            /* -1: a device that has no such mode */
    u64 energy;         /* millijoules since the driver was loaded; ~0: it does not count */
    int processes_error;
    int error;
    u64 held_back[4];   /* nanoseconds: power cap, thermal, hardware thermal, power brake */
    int counts_held_back; /* 1: as fields; 2: in the call of older drivers */
    int lacks;            /* a bit for each counter that is no field of this device */
    unsigned power_limit, default_power_limit; /* milliwatts */
    int persistence, compute_mode, ecc;
    unsigned sm_mhz;    /* 0: it does not tell */
    u64 near;           /* processors beside it; 0: it does not tell */
} device;

typedef struct {
    int init_error;
    device devices[DEVICES];
    int cuda;             /* major version, which the numbers of fields go by */
    u64 settings;         /* how often one was read */
} state;

state nvml_double;

#define CHECK(d) if ((d)->error) return (d)->error

int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvml_double.init_error; }
int nvmlInit_v2(void) { return nvml_double.init_error; }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code)
{
    return code == 4 ? "Insufficient Permissions" : code == 9 ? "Driver Not Loaded" : "Played Error";
}

int nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    strncpy(version, "599.99.99", length);
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) { *count = DEVICES; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **handle)
{
    if (index >= DEVICES)
        return INVALID_ARGUMENT;
    *handle = &nvml_double.devices[index];
    return SUCCESS;
}

/* In a process of its own: what is done to the first device is written to a file. */
static int note(const char *what, unsigned mhz)
{
    const char *path = getenv("NVML_DOUBLE_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file == NULL)
        return 4;
    fprintf(file, "%s %u\n", what, mhz);
    fclose(file);
    return SUCCESS;
}

__attribute__((constructor)) static void name_the_first(void)
{
    if (getenv("NVML_DOUBLE_UUID"))
        strncpy(nvml_double.devices[0].uuid, getenv("NVML_DOUBLE_UUID"), 95);
}

int nvmlDeviceSetGpuLockedClocks(device *handle, unsigned least, unsigned most)
{
    CHECK(handle);
    return least == most ? note("locked", most) : INVALID_ARGUMENT;
}

int nvmlDeviceResetGpuLockedClocks(device *handle)
{
    CHECK(handle);
    return note("reset", 0);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device **handle)
{
    for (int index = 0; index < DEVICES; index++)
        if (strcmp(nvml_double.devices[index].uuid, uuid) == 0) {
            CHECK(&nvml_double.devices[index]);
            *handle = &nvml_double.devices[index];
            return SUCCESS;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(device *handle, char *uuid, unsigned length)
{
    strncpy(uuid, handle->uuid, length);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device *handle, memory *info)
{
    CHECK(handle);
    *info = handle->bytes;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device *handle, unsigned *count, process *processes)
{
    unsigned room = *count;
    CHECK(handle);
    if (handle->processes_error)
        return handle->processes_error;
    *count = handle->process_count;
    if (room < handle->process_count)
        return INSUFFICIENT_SIZE;
    if (processes != NULL)
        memcpy(processes, handle->processes, handle->process_count * sizeof(process));
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(device *handle, u64 *reasons)
{
    CHECK(handle);
    *reasons = handle->clock_reasons;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(device *handle, unsigned *current, unsigned *pending)
{
    if (handle->mig < 0)
        return NOT_SUPPORTED;
    *current = *pending = (unsigned)handle->mig;
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(device *handle, u64 *millijoules)
{
    CHECK(handle);
    if (handle->energy == ~0ULL)
        return NOT_SUPPORTED;
    *millijoules = handle->energy;
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(device *handle, unsigned type, unsigned *mhz)
{
    CHECK(handle);
    if (type != 2 && handle->sm_mhz == 0)
        return NOT_SUPPORTED;
    *mhz = type == 2 ? 2619 : handle->sm_mhz;
    return SUCCESS;
}

int nvmlDeviceGetMaxClockInfo(device *handle, unsigned type, unsigned *mhz)
{
    (void)type;
    CHECK(handle);
    *mhz = 1980;
    return SUCCESS;
}

typedef struct {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type;
    int code;
    u64 value;
} field;

int nvmlSystemGetCudaDriverVersion(int *version)
{
    *version = 1000 * nvml_double.cuda + 20;
    return SUCCESS;
}

/* Which counter a field is, -1 for none: two numbers for all drivers, three by their generation. */
static int counter_of(unsigned id)
{
    unsigned first = nvml_double.cuda >= 13 ? 269 : 251;
    if (id == 74 || id == 75)
        return (int)id - 74;
    return id >= first && id < first + 3 ? (int)(id - first) + 1 : -1;
}

int nvmlDeviceGetFieldValues(device *handle, int count, field *fields)
{
    CHECK(handle);
    for (int index = 0; index < count; index++) {
        unsigned id = fields[index].id;
        int counter = counter_of(id), setting = counter < 0 && ((id >= 251 && id <= 253) || (id >= 269 && id <= 271));
        fields[index].code = NOT_SUPPORTED;
        if (setting || (counter >= 0 && handle->counts_held_back & 1 && !(handle->lacks >> counter & 1))) {
            fields[index].code = SUCCESS;
            /* A setting of power smoothing, which somebody changes all the time. */
            fields[index].value = setting ? 1000000000 * ++nvml_double.settings : handle->held_back[counter];
        }
    }
    return SUCCESS;
}

typedef struct {
    u64 reference, nanoseconds;
} violation;

int nvmlDeviceGetViolationStatus(device *handle, unsigned policy, violation *found)
{
    CHECK(handle);
    if (policy > 1 || !(handle->counts_held_back & 2))
        return NOT_SUPPORTED;
    found->nanoseconds = handle->held_back[policy];
    return SUCCESS;
}

int nvmlDeviceGetCpuAffinity(device *handle, unsigned words, u64 *mask)
{
    CHECK(handle);
    if (handle->near == 0)
        return NOT_SUPPORTED;
    memset(mask, 0, words * sizeof(u64));
    mask[0] = handle->near;
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(device *handle, unsigned *milliwatts)
{
    CHECK(handle);
    *milliwatts = handle->power_limit;
    return SUCCESS;
}

int nvmlDeviceGetPowerManagementDefaultLimit(device *handle, unsigned *milliwatts)
{
    CHECK(handle);
    *milliwatts = handle->default_power_limit;
    return SUCCESS;
}

int nvmlDeviceGetPersistenceMode(device *handle, unsigned *mode)
{
    CHECK(handle);
    *mode = (unsigned)handle->persistence;
    return SUCCESS;
}

int nvmlDeviceGetComputeMode(device *handle, unsigned *mode)
{
    CHECK(handle);
    *mode = (unsigned)handle->compute_mode;
    return SUCCESS;
}

int nvmlDeviceGetEccMode(device *handle, unsigned *current, unsigned *pending)
{
    if (handle->ecc < 0)
        return NOT_SUPPORTED;
    *current = *pending = (unsigned)handle->ecc;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(device *handle, unsigned *milliwatts)
{
    CHECK(handle);
    *milliwatts = 250000;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(device *handle, unsigned sensor, unsigned *celsius)
{
    (void)sensor;
    CHECK(handle);
    *celsius = 41;
    return SUCCESS;
}
