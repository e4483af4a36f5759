/* Decodes events as Wazuh's JSON decoder and its alert writer do, with the cJSON library they use.
 *
 * One JSON text a line on stdin; for each, one line on stdout: `null` where cJSON refuses the text,
 * else {"fields":N,"lost":N,"leaves":[[path,value],...]}: the fields of the decoder in order, and how many
 * of them find no place in the alert. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *leaves, *alert;
static int fields, lost;

/* A dot nests, the first one wins. */
static int place(cJSON *root, const char *path, const char *value)
{
    const char *dot = strchr(path, '.');
    if (dot == NULL) {
        if (cJSON_GetObjectItem(root, path) != NULL) return 0;
        cJSON_AddItemToObject(root, path, cJSON_CreateString(value));
        return 1;
    }
    char *key = strndup(path, (size_t)(dot - path));
    cJSON *object = cJSON_GetObjectItem(root, key);
    if (object == NULL) cJSON_AddItemToObject(root, key, object = cJSON_CreateObject());
    free(key);
    return cJSON_IsObject(object) && place(object, dot + 1, value);
}

static void leaf(const char *path, const char *value)
{
    cJSON *pair = cJSON_CreateArray();
    fields++;
    cJSON_AddItemToArray(pair, cJSON_CreateString(path));
    cJSON_AddItemToArray(pair, cJSON_CreateString(value));
    cJSON_AddItemToArray(leaves, pair);
    lost += !place(alert, path, value);
}

static void walk(const cJSON *object, const char *prefix)
{
    for (const cJSON *item = object->child; item != NULL; item = item->next) {
        size_t size = strlen(prefix) + strlen(item->string) + 2;
        char *path = malloc(size), number[400], *text;
        snprintf(path, size, "%s%s%s", prefix, *prefix ? "." : "", item->string);
        if (cJSON_IsObject(item)) {
            walk(item, path);
        } else if (cJSON_IsNumber(item)) {
            int whole = (double)item->valueint == item->valuedouble;
            if (whole) snprintf(number, sizeof number, "%d", item->valueint);
            else snprintf(number, sizeof number, "%f", item->valuedouble);
            leaf(path, number);
        } else if (cJSON_IsString(item)) {
            leaf(path, item->valuestring);
        } else {
            text = cJSON_Print(item);
            leaf(path, text);
            free(text);
        }
        free(path);
    }
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (getline(&line, &room, stdin) > 0) {
        cJSON *event = cJSON_Parse(line);
        if (event == NULL || !cJSON_IsObject(event)) {
            puts("null");
            continue;
        }
        fields = lost = 0;
        leaves = cJSON_CreateArray();
        alert = cJSON_CreateObject();
        walk(event, "");
        char *text = cJSON_PrintUnformatted(leaves);
        printf("{\"fields\":%d,\"lost\":%d,\"leaves\":%s}\n", fields, lost, text);
        free(text);
        cJSON_Delete(leaves);
        cJSON_Delete(alert);
        cJSON_Delete(event);
    }
    return 0;
}
