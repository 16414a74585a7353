/* SPDX-License-Identifier: MIT */

/*
 * A main() for a target, in place of libFuzzer's: runs it once with each of the
 * files and files in folders that are its arguments, in the order of their names.
 */

#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

extern int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static int replayed;

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat about;
    if (!file || fstat(fileno(file), &about) != 0) {
        perror(path);
        if (file)
            fclose(file);
        return 1;
    }
    /* Exact, as libFuzzer has it. */
    size_t size = (size_t)about.st_size;
    unsigned char *data = malloc(size ? size : 1);
    int failed = !data || fread(data, 1, size, file) != size;
    fclose(file);
    if (!failed) {
        printf("%s\n", path); /* before it runs: the last one named is the one that crashed */
        fflush(stdout);
        LLVMFuzzerTestOneInput(data, size);
        replayed++;
    }
    free(data);
    return failed;
}

static int replay(const char *path);

static int replay_folder(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    int failed = count < 0;
    for (int i = 0; i < count; i++) {
        char inside[4096];
        if (entries[i]->d_name[0] != '.') {
            snprintf(inside, sizeof(inside), "%s/%s", path, entries[i]->d_name);
            failed |= replay(inside);
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return failed;
}

static int replay(const char *path)
{
    struct stat about;
    if (stat(path, &about) != 0) {
        perror(path);
        return 1;
    }
    return S_ISDIR(about.st_mode) ? replay_folder(path) : replay_file(path);
}

int main(int argc, char **argv)
{
    int failed = 0;
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    printf("%d inputs\n", replayed);
    return failed || replayed == 0;
}
