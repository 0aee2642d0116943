extern const char answer_version[];
int answer_to(int question);
