#include "check.h"

unsigned check_failures;
