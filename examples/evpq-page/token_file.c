/* SPDX-License-Identifier: MIT */
#include "token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "screen.h"

#define PART_SUFFIX ".part"
#define MAX_TOKEN   4096

static bool file_fail(const struct token_file *file, const char *problem)
{
    say("--token-out %s: %s", file->path, problem);
    return false;
}

static int part_open(const struct token_file *file)
{
    return open(file->part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
}

/* The file that the rows go to, by whichever name. */
static bool is_stdout(const struct stat *file)
{
    struct stat out;
    return fstat(STDOUT_FILENO, &out) == 0 && S_ISREG(out.st_mode) && out.st_dev == file->st_dev &&
           out.st_ino == file->st_ino;
}

bool token_file_open(struct token_file *file, const char *path, const char *format)
{
    *file = (struct token_file){.path = path, .format = format};
    if (!path)
        return true;
    struct stat old;
    bool exists = stat(path, &old) == 0;
    if (exists && !S_ISREG(old.st_mode)) /* rename() would put a file in the place of a device */
        return file_fail(file, "is no regular file");
    if (exists && is_stdout(&old))
        return file_fail(file, "is the file that the rows go to");
    file->real = exists ? realpath(path, NULL) : strdup(path);
    if (!file->real || asprintf(&file->part, "%s" PART_SUFFIX, file->real) < 0) {
        file->part = NULL;
        return file_fail(file, strerror(ENOMEM));
    }
    if (stat(file->part, &old) == 0 && is_stdout(&old))
        return file_fail(file, "the rows go to the file it is prepared in, " PART_SUFFIX);
    int fd = part_open(file);
    if (fd < 0)
        return file_fail(file, strerror(errno));
    close(fd);
    unlink(file->part);
    return true;
}

/* The second line; empty where stdout is no file. The rows must be on disk before the token is. */
static bool output_place(const char *format, char *line, size_t size)
{
    struct stat out;
    *line = 0;
    if (fstat(STDOUT_FILENO, &out) != 0 || !S_ISREG(out.st_mode))
        return true;
    if (fdatasync(STDOUT_FILENO) != 0)
        return false;
    off_t end = lseek(STDOUT_FILENO, 0, SEEK_CUR);
    snprintf(line, size, "stdout %ju %ju %jd %s\n", (uintmax_t)out.st_dev, (uintmax_t)out.st_ino,
             (intmax_t)end, format);
    return end >= 0;
}

bool token_file_write(struct token_file *file, const char *token)
{
    if (!file->path)
        return true;
    if (!token)
        return file_fail(file, "the order columns of the last row are too long for a token");

    char place[128], text[MAX_TOKEN + sizeof place + 2];
    if (!output_place(file->format, place, sizeof place))
        return file_fail(file, strerror(errno));
    int length = snprintf(text, sizeof text, "%s\n%s", token, place);
    int fd = part_open(file);
    if (fd < 0)
        return file_fail(file, strerror(errno));
    errno = ENOSPC; /* what a short write means */
    bool good = write(fd, text, (size_t)length) == length && fsync(fd) == 0;
    int problem = errno;
    if (close(fd) != 0 && good) {
        good = false;
        problem = errno;
    }
    if (good && rename(file->part, file->real) == 0)
        return true;
    if (good)
        problem = errno;
    unlink(file->part);
    return file_fail(file, strerror(problem));
}

void token_file_close(struct token_file *file)
{
    free(file->real);
    free(file->part);
    *file = (struct token_file){0};
}

/* Cuts stdout back to its first `end` bytes. False: said why not. */
static bool output_cut(intmax_t size, intmax_t end)
{
    if (ftruncate(STDOUT_FILENO, end) != 0 || lseek(STDOUT_FILENO, end, SEEK_SET) < 0) {
        say("cannot cut stdout back to the token: %s", strerror(errno));
        return false;
    }
    if (size > end)
        say("cut %jd bytes off stdout, to write again what stands behind the token", size - end);
    return true;
}

/* Whether stdout is the file of the second line; then it is cut back to what stood before the
 * token. False: it cannot go on there, as is said. */
static bool output_continue(const char *line, const char *format, bool *continued)
{
    uintmax_t device, inode;
    intmax_t end;
    char before[16];
    struct stat out;
    *continued = false;
    if (sscanf(line, "stdout %ju %ju %jd %15s", &device, &inode, &end, before) != 4 ||
        fstat(STDOUT_FILENO, &out) != 0 || !S_ISREG(out.st_mode) || out.st_dev != device ||
        out.st_ino != inode)
        return true;
    if (out.st_size < end) {
        say("stdout has lost rows since the token was written: it has %jd of %jd bytes",
            (intmax_t)out.st_size, end);
        return false;
    }
    if (strcmp(before, format) != 0) {
        say("stdout was begun with --format %s: it cannot go on with %s", before, format);
        return false;
    }
    *continued = true;
    return output_cut(out.st_size, end);
}

static char *token_fail(const char *path, const char *problem)
{
    say("cannot read the token: %s: %s", path, problem);
    return NULL;
}

char *token_file_read(const char *path, const char *format, bool *continued)
{
    char text[MAX_TOKEN + 256];
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_out = fd >= 0 && fstat(fd, &file) == 0 && is_stdout(&file);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    int problem = errno;
    if (fd >= 0)
        close(fd);
    if (is_out)
        return token_fail(path, "is the file that the rows go to");
    if (length < 0)
        return token_fail(path, strerror(problem));
    text[length] = 0;
    char *end = strchrnul(text, '\n');
    if (*end && !output_continue(end + 1, format, continued))
        return NULL;
    *end = 0;
    char *token = strdup(text);
    if (!token)
        say("out of memory");
    return token;
}
